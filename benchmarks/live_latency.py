"""Latency, speed and quality of live conversion, for several lengths of step.

    python benchmarks/live_latency.py [PAIRS.tsv] [--seconds 60] [--known] [--running] [--wall]

PAIRS.tsv is a table as for evaluate.py (of several targets, separated by |, the first is used);
without it the two examples are converted. Every row of the output is one setting. The latency "with
computing" is the time from speaking a sample until its conversion could be played, if pieces of
16 ms arrive in real time and are converted one after another. Computing time is CPU time; with
--wall it is wall time, which includes waiting for other programs. Quality is shown beside that of
the offline conversion of the same recordings, as CAM++, Whisper base, DistillMOS and DNSMOS hear it
(extra eval). Each stream begins with the source. The column source_reference names another
recording of the speaker: with --running the stream has converted it before, with --known it is
known, as by speaker=RECORDING of live.py. Character errors are counted against
Whisper's transcript of the source, in the table's language or else the one that Whisper hears, at
most 1 each: where it repeats itself endlessly, all is lost.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vc_lightning import VoiceConverter
from vc_lightning.commands.support import entry_point
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import ROOT
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.evaluation.pairs import Pair, from_table
from vc_lightning.evaluation.scorers import dnsmos
from vc_lightning.evaluation.scorers.networks.campplus import SpeakerJudge
from vc_lightning.evaluation.scorers.networks.distillmos import DistillMOSListener
from vc_lightning.evaluation.scorers.recognisers import texts, whisper
from vc_lightning.models.speaker_encoder import similarity

SETTINGS = [  # block and lookahead in seconds, and whether the recogniser listens
    (0.16, 0.19, True),
    (0.112, 0.064, True),
    (0.096, 0.064, True),
    (0.08, 0.064, True),
    (0.064, 0.096, True),
    (0.064, 0.064, True),
    (0.064, 0.064, False),
]
PIECE_SECONDS = 0.016  # length of the pieces of sound, as from a sound card
PERCENTILES = [50, 95, 99, 100]

Clock = Callable[[], float]  # seconds
Setting = tuple[float, float, bool]


def main() -> None:
    """Print the speed of every setting, then its quality."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=Path)
    parser.add_argument(
        "--seconds", type=float, default=60, help="of sound for the speed; 0 skips it"
    )
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--known", action="store_true", help="a recording of the speaker is known")
    before.add_argument(
        "--running", action="store_true", help="the speaker has been talking before"
    )
    parser.add_argument("--wall", action="store_true", help="waiting for other programs counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = read_pairs(arguments.pairs)
    if arguments.running or arguments.known:
        require_others(pairs)
    converter = VoiceConverter.from_pretrained()
    if arguments.seconds:
        clock = time.perf_counter if arguments.wall else time.thread_time
        print_speed(converter, pairs[0], arguments.seconds, clock)
    print_quality(converter, pairs, arguments.known, arguments.running)


def require_others(pairs: list[Pair]) -> None:
    """Raise InputError for a pair without another recording of its speaker."""
    for pair in pairs:
        if pair.source_reference == pair.source:
            raise InputError(
                f"{pair.source}: name another recording of the speaker in the column "
                "source_reference"
            )


def read_pairs(table: Path | None) -> list[Pair]:
    """Read the pairs of a table."""
    if table is not None:
        return from_table(table, None)
    source, target = (ROOT / "examples" / f"{name}.wav" for name in ("source", "target"))
    return [Pair(source, (target,), target, source, "source", "target", "en")]


def print_speed(converter: VoiceConverter, pair: Pair, seconds: float, clock: Clock) -> None:
    """Print real-time factor and latency of every setting over some seconds of speech."""
    voice, speech = converter.voice(pair.voice[0]), converter.load(pair.source)
    speech = np.resize(speech, round(seconds * converter.sample_rate))
    print(f"{'':<36}algorithmic  with computing p50   p95   p99   max  real-time factor")
    for setting in SETTINGS:
        stream = opened(converter, voice, setting)
        waits, took = latencies(stream, speech, clock)
        found = "  ".join(f"{1000 * value:4.0f}" for value in np.percentile(waits, PERCENTILES))
        print(
            f"{name_of(setting):<36}     {1000 * stream.latency_seconds:3.0f} ms                "
            f"{found}  {took / seconds:.2f}",
            flush=True,
        )


def opened(
    converter: VoiceConverter,
    voice: Voice,
    setting: Setting,
    speaker: Voice | None = None,
    spoken: np.ndarray | None = None,
) -> VoiceStream:
    """Open a stream with block, look-ahead and listener of a setting, of a known speaker or not."""
    block, lookahead, listens = setting
    return converter.stream(
        voice,
        block,
        lookahead_seconds=lookahead,
        listens=listens,
        source=speaker,
        earlier=spoken,
    )


def name_of(setting: Setting) -> str:
    """Describe a setting in a few words."""
    block, lookahead, listens = setting
    listener = "recogniser" if listens else "live encoder"
    return f"{1000 * block:.0f} ms + {1000 * lookahead:.0f} ms, {listener}"


def latencies(stream: VoiceStream, speech: np.ndarray, clock: Clock) -> tuple[np.ndarray, float]:
    """Measure the latency of the first sample of every step and the computing time, in seconds.

    Pieces arrive in real time; a piece that takes too long delays the next one.
    """
    n_block, rate = round(PIECE_SECONDS * stream.sample_rate), stream.sample_rate
    waits, took, free, n_out = [], 0.0, 0.0, 0
    for start in range(0, len(speech) - n_block + 1, n_block):
        arrived = (start + n_block) / rate
        begun = clock()
        made = stream.push(speech[start : start + n_block])
        seconds = clock() - begun
        took += seconds
        free = max(free, arrived) + seconds
        if len(made):
            waits.append(free - n_out / rate)
            n_out += len(made)
    return np.array(waits), took


def print_quality(
    converter: VoiceConverter, pairs: list[Pair], is_known: bool, is_running: bool
) -> None:
    """Print means over the pairs of the offline conversion and of every setting."""
    rows: dict[str, list[list[float]]] = {}
    judges = Judges(converter)
    for pair in pairs:
        speech, voice = converter.load(pair.source), converter.voice(pair.voice[0])
        judges.hear(speech, converter.load(pair.voice[0]), pair.language)
        if not judges.said:
            raise InputError(
                f"{pair.source}: Whisper hears no words; name its language in a column"
            )
        earlier = converter.load(pair.source_reference) if is_running else speech[:0]
        known: tuple[Voice, np.ndarray] | tuple[()] = ()
        if is_known:
            other = pair.source_reference
            known = converter.voice(other), converter.end_of_speech(other)
        offline = converter.convert_to(speech, voice)
        rows.setdefault("offline", []).append(judges.scores(offline))
        for setting in SETTINGS:
            stream = opened(converter, voice, setting, *known)
            wav = np.concatenate([stream.push(np.append(earlier, speech)), stream.flush()])
            rows.setdefault(name_of(setting), []).append(judges.scores(wav[len(earlier) :]))
    stream_is = "running" if is_running else "new"
    speaker_is = "known" if is_known else "not known"
    print(f"\n{len(pairs)} pairs, the stream is {stream_is}, its speaker is {speaker_is}")
    print(f"{'':<36}" + "".join(f"{name:>12}" for name in Judges.NAMES))
    for name, values in rows.items():
        means = np.mean(values, axis=0)
        print(f"{name:<36}" + "".join(f"{mean:12.3f}" for mean in means), flush=True)


class Judges:
    """Score conversions by judges that heard their source and their target.

    Args:
        converter: Its speaker encoder is one of the judges.
    """

    NAMES = ("GE2E", "CAM++", "to source", "char. err.", "DistillMOS", "DNSMOS")

    def __init__(self, converter: VoiceConverter):
        self.converter = converter
        self.voices = SpeakerJudge()
        self.recogniser = whisper.Recogniser()
        self.listeners = (DistillMOSListener(), dnsmos.DNSMOSListener())
        self.rate = converter.sample_rate

    def hear(self, source: np.ndarray, target: np.ndarray, language: str) -> None:
        """Listen to source and target (n,), to which the next conversions are compared.

        Args:
            source: The source.
            target: The target.
            language: Language of the source, or "" where it is unknown.
        """
        self.said, self.language = self.recogniser.recognised(source, self.rate, language)
        self.source = self.voices.embed(source, self.rate)
        self.target = self.voices.embed(target, self.rate)
        self.target_embedding = self.converter.embed(target)

    def scores(self, wav: np.ndarray) -> list[float]:
        """Score a conversion (n,) -> numbers in the order of `NAMES`."""
        voice = self.voices.embed(wav, self.rate)
        heard = self.recogniser.transcript(wav, self.rate, self.language)
        errors = texts.character_errors(self.said, heard).value
        return [
            similarity(self.converter.embed(wav), self.target_embedding),
            similarity(voice, self.target),
            similarity(voice, self.source),
            min(1.0, errors),
            *(listener.naturalness(wav, self.rate) for listener in self.listeners),
        ]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        entry_point.fail(str(error))
