"""How often the watermark is found after MP3 at 64 kbit/s, how often wrongly, and what it costs.

    python scripts/measure/measure_watermark.py RECORDINGS [--n 400] [--pairs PAIRS.tsv …]

RECORDINGS is a folder; its recordings are marked and copied as MP3. Of the conversions of PAIRS.tsv
(columns source and target, as of `evaluate.py`), DistillMOS rates the sound with and without the
mark (extra eval, see docs/evaluation.md).
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from vc_lightning import VoiceConverter
from vc_lightning.audio import watermark
from vc_lightning.audio.files import io
from vc_lightning.evaluation.pairs import from_table
from vc_lightning.evaluation.scorers.networks.distillmos import DistillMOSListener

BITS_PER_SECOND = 64_000
SHORT_S = 3.0  # shorter recordings are counted apart


def main() -> None:
    """Print the rates, then the cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recordings", type=Path, help="a folder")
    parser.add_argument("--n", type=int, default=400, help="number of recordings")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[], help="tables of pairs")
    options = parser.parse_args()
    files = [p for p in options.recordings.rglob("*") if p.suffix.lower() in io.AUDIO_SUFFIXES]
    random.Random(0).shuffle(files)
    rates(sorted(files[: options.n]))
    if options.pairs:
        cost(options.pairs)


def rates(files: Sequence[Path]) -> None:
    """Print how often the mark is found in marked MP3s and in the recordings themselves."""
    found: dict[bool, list[float]] = {False: [], True: []}
    unmarked = []
    for path in files:
        wav, rate = io.load(path)
        unmarked.append(watermark.detect(wav, rate).score)
        copy = as_mp3(watermark.embed(wav, rate), rate)
        found[len(wav) < SHORT_S * rate].append(watermark.detect(*copy).score)
    for is_short, scores in found.items():
        if scores:
            share = np.mean(np.array(scores) >= watermark.THRESHOLD)
            length = "shorter" if is_short else "longer"
            print(
                f"{length} than {SHORT_S:g} s: found in {share:.1%} of {len(scores)}, "
                f"lowest score {min(scores):.1f}, median {statistics.median(scores):.1f}"
            )
    wrong = np.mean(np.array(unmarked) >= watermark.THRESHOLD)
    print(f"unmarked: found in {wrong:.1%} of {len(unmarked)}, highest score {max(unmarked):.1f}")


def cost(tables: Sequence[Path]) -> None:
    """Print DistillMOS of conversions without and with the mark."""
    converter, listener = VoiceConverter.from_pretrained(), DistillMOSListener()
    ratings = []
    for pair in (pair for table in tables for pair in from_table(table, None)):
        wav = converter.convert(pair.source, list(pair.voice))
        marked = watermark.embed(wav, converter.sample_rate)
        rate = converter.sample_rate
        ratings.append([listener.naturalness(one, rate) for one in (wav, marked)])
    without, with_mark = np.mean(ratings, axis=0)
    print(
        f"DistillMOS of {len(ratings)} conversions: {without:.3f}, marked {with_mark:.3f}, "
        f"change {with_mark - without:+.3f} (largest loss {-np.min(np.diff(ratings)):.3f})"
    )


def as_mp3(wav: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Return a recording as it is after MP3 at a constant rate."""
    samples = (np.clip(wav, -1, 1) * 32767).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.mp3")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libmp3lame", rate=sample_rate)
            stream.bit_rate, stream.layout = BITS_PER_SECOND, "mono"
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = sample_rate
            planar = av.AudioResampler(format="s16p", layout="mono", rate=sample_rate)
            for part in planar.resample(frame):
                container.mux(stream.encode(part))
            container.mux(stream.encode())
        return io.load(path)


if __name__ == "__main__":
    main()
