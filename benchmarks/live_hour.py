"""An hour of live conversion: drift of the lag, growth of the memory, and slow steps.

    python benchmarks/live_hour.py [PAIRS.tsv] [--minutes 60]

PAIRS.tsv is a table as for evaluate.py; without it the two examples are used. Its sources are
converted repeatedly, one after another, to the voice of its first target, as fast as possible, at
the pace that `live.py` chooses on this machine, as it is when the program starts.
One line per minute of sound shows the memory of the process, the real-time factor, and the
longest step as a share of its length, which must stay below 1. Computing time is CPU time, so
that other programs do not count.
At the end the first and the last repetition are compared: their lag behind the source, their
similarity to the target, their level.
"""

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from live_latency import read_pairs

from vc_lightning import VoiceConverter
from vc_lightning.conversion.live.pace import Pace, affordable
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.models.speaker_encoder import similarity

MINUTE = 60.0
MAX_LAG_FRAMES = 40  # that are searched
MEBIBYTE = 2**20


def main() -> None:
    """Stream the speech and print a line a minute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="of sound")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    converter = VoiceConverter.from_pretrained()
    pairs = read_pairs(arguments.pairs)
    speech = np.concatenate([converter.load(pair.source) for pair in pairs])
    voice = converter.voice(pairs[0].voice[0])
    n_samples = round(arguments.minutes * MINUTE * converter.sample_rate)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def opened(pace: Pace) -> VoiceStream:
        return converter.stream(voice, pace.block_seconds, listens=pace.listens)

    stream = opened(affordable(opened, None, None))
    first, last = run(stream, speech, n_samples)
    for name, wav, start in (
        ("first", first, 0),
        ("last", last, n_samples - len(last)),
    ):
        said = speech[np.arange(start, start + len(wav)) % len(speech)]
        rms = 10 * np.log10(np.mean(np.square(wav, dtype=np.float64)))
        print(
            f"{name} {len(wav) / converter.sample_rate:.0f} s: lag {lag(converter, said, wav)} "
            f"frames, similarity {similarity(converter.embed(wav), voice.embedding):.3f}, "
            f"level {rms:.1f} dBFS"
        )


def run(stream: VoiceStream, speech: np.ndarray, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Stream n_samples of the repeated speech.

    Returns:
        The output for its first and last minute at most.
    """
    process, rate, n_block = psutil.Process(), stream.sample_rate, stream.block_samples
    n_kept = min(round(MINUTE * rate), n_samples)
    kept, first = np.zeros(0, np.float32), np.zeros(0, np.float32)
    n_in = n_out = n_late = 0
    seconds: list[float] = []
    longest, total = 0.0, 0.0
    print("minute  memory MiB  real-time factor  longest step  late steps  samples behind")
    while n_in < n_samples:
        index = np.arange(n_in, min(n_in + n_block, n_samples)) % len(speech)
        begun = time.thread_time()
        made = stream.push(speech[index])
        seconds.append(time.thread_time() - begun)
        n_in, n_out = n_in + len(index), n_out + len(made)
        kept = np.concatenate([kept, made])[-n_kept:]
        if len(first) < n_kept:
            first = np.concatenate([first, made])[:n_kept]
        if n_in // round(MINUTE * rate) > (n_in - len(index)) // round(MINUTE * rate):
            share = np.array(seconds) / stream.block_seconds
            longest, total = max(longest, share.max()), total + share.sum()
            n_late += int((share > 1).sum())
            print(
                f"{n_in / rate / MINUTE:6.0f}  {process.memory_info().rss / MEBIBYTE:10.1f}  "
                f"{share.mean():16.3f}  {share.max():12.2f}  {n_late:10}  {n_in - n_out:14}",
                flush=True,
            )
            seconds.clear()
    rest = stream.flush()
    kept = np.concatenate([kept, rest])[-n_kept:]
    print(f"{n_in} samples in, {n_out + len(rest)} out; longest step {longest:.2f} of its length")
    return first, kept


def lag(converter: VoiceConverter, said: np.ndarray, heard: np.ndarray) -> int:
    """Measure by how many frames the loudness of the output is later than that of the input."""
    envelopes = [
        converter.mel.extract(wav, converter.sample_rate).mean(axis=0) for wav in (said, heard)
    ]
    one, other = (envelope - envelope.mean() for envelope in envelopes)
    n = len(one) - MAX_LAG_FRAMES
    lags = range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)
    fit = [
        float(one[max(0, -by) : n - max(0, by)] @ other[max(0, by) : n - max(0, -by)])
        for by in lags
    ]
    return lags[int(np.argmax(fit))]


if __name__ == "__main__":
    main()
