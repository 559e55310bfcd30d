"""Make everything that a visitor sees and hears first, with the shipped weights.

    python scripts/figures/make_front_page.py [--report REPORT.json] [--minutes PRINTED.txt]

It writes docs/conversion.wav and .png, the conversions and the table of docs/listen.md, the film
docs/demo.mp4 with its picture docs/demo.png, docs/architecture.svg, the badges, and the figures in
README.md and docs/index.md. It takes minutes on one CPU core.

`--report` is the report of `python evaluate.py` and rewrites the README's table of quality.
`--minutes` is what `python benchmarks/minutes_to_convert.py RUN_DIR PAIRS.tsv` printed and rewrites
the minutes of training. Without them these two stay as they are.
"""

import argparse
import datetime
import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import badges
import blocks
import film
import make_architecture
import make_figures
import numpy as np
import torch

from vc_lightning import VoiceConverter
from vc_lightning.audio.files import io
from vc_lightning.common import resources
from vc_lightning.conversion import provenance
from vc_lightning.conversion.live.pace import Pace, affordable
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.models.speaker_encoder import similarity

ROOT = resources.ROOT
DOCS, LISTEN, EXAMPLES = ROOT / "docs", ROOT / "docs" / "listen", ROOT / "examples"
FILM, POSTER = DOCS / "demo.mp4", DOCS / "demo.png"
VOICE_SECONDS = 3.5  # of the target in the film
REPEATS = 3
PLAYED = "file"  # text of the link below a player
PIECE_SECONDS = 0.016  # of sound, as from a sound card


@dataclass(frozen=True)
class Shown:
    """A pair of docs/listen.md; paths are relative to docs/.

    Attributes:
        title: What it shows.
        source: The words.
        target: The voice.
        unseen: Whether no recording of the target was in the training data.
        in_film: Its title in the film, or "" to leave it out.
    """

    title: str
    source: str
    target: str
    unseen: bool
    in_film: str = ""

    @property
    def conversion(self) -> str:
        """Path of the conversion."""
        return f"listen/{Path(self.source).stem}_to_{Path(self.target).stem}.flac"


READER, ALLISON = "listen/en_reader.flac", "../examples/target.wav"
SHOWN = (
    Shown(
        *("English: a man's sentence in a woman's voice", "../examples/source.wav", ALLISON, False),
        in_film="English: a man's sentence in a woman's voice",
    ),
    Shown("English: a woman's sentence in a man's voice", "listen/en_allison.flac", READER, True),
    Shown(
        *("French, in the voice of an English reader", "listen/fr_june.flac", READER, True),
        in_film="French, in the voice of a reader of English",
    ),
    Shown(
        "Italian, in a voice from a telephone recording (8 kHz)",
        *("listen/it_carlo.flac", "listen/it_menardi.flac", True),
    ),
    Shown(
        *("Russian, in a voice that speaks French", "listen/ru_ivrvoice.flac"),
        *("listen/fr_june_voice.flac", False),
        in_film="Russian, in a voice that speaks French",
    ),
    Shown(
        "**A failure:** two people speak at once; the network expects one, and words are lost",
        *("listen/two_at_once.flac", "listen/fr_june_voice.flac", False),
    ),
)


def main() -> None:
    """Make all of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", type=Path, help="report.json of evaluate.py")
    parser.add_argument("--minutes", type=Path, help="what minutes_to_convert.py printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    converter = VoiceConverter.from_pretrained()
    make_figures.main()
    make_architecture.main()
    badges.write()
    scenes = listen(converter)
    film.write(FILM, POSTER, scenes, converter.mel)
    places = example(converter) | speed(converter)
    if options.report:
        places["quality"] = quality(json.loads(options.report.read_text(encoding="utf-8")))
    if options.minutes:
        places["minutes"] = minutes(options.minutes.read_text(encoding="utf-8"))
    blocks.rewrite(ROOT / "README.md", places)
    blocks.rewrite(DOCS / "index.md", {"latency": places["latency"]})
    print(f"film: {FILM.stat().st_size / 1e6:.1f} MB", *places.values(), sep="\n")


def listen(converter: VoiceConverter) -> list[film.Scene]:
    """Convert the pairs, write the table of docs/listen.md, and return the film's scenes."""
    rows = [
        "| source | target | conversion | to target, to source |",
        "|---|---|---|---|",
    ]
    scenes = []
    for shown in SHOWN:
        source, target = DOCS / shown.source, DOCS / shown.target
        wav = converter.convert(source, target)
        strings = provenance.strings(converter.note())
        io.save(DOCS / shown.conversion, wav, converter.sample_rate, strings)
        embedding = converter.embed(wav)
        to_target, to_source = (similarity(embedding, converter.embed(p)) for p in (target, source))
        files = (shown.source, shown.target, shown.conversion)
        players = [player(path) for path in files]
        outside = "; the voice was not in the training data" if shown.unseen else ""
        rows.append(f"| {shown.title}{outside} | | | |")
        rows.append(f"| {' | '.join(players)} | {to_target:.2f}, {to_source:.2f} |")
        if shown.in_film:
            voice = converter.load(target)[: round(VOICE_SECONDS * converter.sample_rate)]
            scenes.append(film.Scene(shown.in_film, (converter.load(source), voice, wav)))
    blocks.rewrite(DOCS / "listen.md", {"listen": "\n".join(rows)})
    return scenes


def player(path: str) -> str:
    """Make a player for a file, and a link for places that show no player, such as GitHub.

    The page's address is listen/, and scripts/docs/hooks.py gives the site the two examples there.
    """
    name = Path(path).name
    tag = f'<audio controls preload="none" style="width: 150px" src="{name}"></audio>'
    return f"{tag} [{PLAYED}]({path})"


def example(converter: VoiceConverter) -> dict[str, str]:
    """Return what convert.py prints about the quick start's example."""
    source, target = (converter.embed(EXAMPLES / f"{name}.wav") for name in ("source", "target"))
    after = converter.embed(DOCS / "conversion.wav")
    lines = ["voice similarity (GE2E cosine)   to target   to source"]
    for name, embedding in {"before (source)": source, "after (conversion)": after}.items():
        cosines = (similarity(embedding, target), similarity(embedding, source))
        lines.append(f"{name:<30}" + "".join(f"{cosine:>12.2f}" for cosine in cosines))
    return {"example": "\n".join(["```text", *lines, "```"])}


def speed(converter: VoiceConverter) -> dict[str, str]:
    """Measure how long conversions take, on one thread, in seconds of CPU time."""
    source, target = EXAMPLES / "source.wav", converter.voice(EXAMPLES / "target.wav")
    seconds = len(converter.load(source)) / converter.sample_rate
    conversion = least(lambda: converter.convert_to(source, target), time.process_time)

    def opened(pace: Pace) -> VoiceStream:
        return converter.stream(target, pace.block_seconds, listens=pace.listens)

    stream = opened(affordable(opened, None, None))
    steps = []
    piece = round(PIECE_SECONDS * converter.sample_rate)
    wav = np.tile(converter.load(source), 2)
    for start in range(0, len(wav), piece):
        began = time.thread_time()
        if len(stream.push(wav[start : start + piece])):
            steps.append(time.thread_time() - began)
    latency = stream.latency_seconds + statistics.median(steps)
    today = datetime.date.today().isoformat()
    pytorch = torch.__version__.split("+")[0]
    machine = f"one thread of {processor()}, PyTorch {pytorch}, {today}"
    return {
        "conversion": f"{conversion:.2g} s of CPU time for {seconds:.0f} s of sound",
        "latency": f"{latency:.2f} s",
        "machine": machine,
    }


def least(function: Callable[[], object], clock: Callable[[], float]) -> float:
    """Run a function several times and return the least time."""
    times = []
    for _ in range(REPEATS):
        began = clock()
        function()
        times.append(clock() - began)
    return min(times)


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        name = re.search(r"model name\s*:\s*(.+)", information.read_text(encoding="utf-8"))
        if name:
            return name[1].strip()
    return platform.processor() or platform.machine()


ROWS = {  # of the README's table: label → keys of the report, their format
    "voice: similarity to the target (CAM++), source → conversion": (
        ("campplus/before", "campplus/to_target"),
        "{:.2f} → {:.2f}",
    ),
    "nearer to the target than to the source's speaker (CAM++)": (("campplus/nearer",), "{:.0%}"),
    "naturalness (DistillMOS, 1 to 5), recording → conversion": (
        ("distillmos/recording", "distillmos/conversion"),
        "{:.2f} → {:.2f}",
    ),
    "characters that Whisper base gets wrong, source → conversion": (
        ("words/source_character_errors", "words/character_errors"),
        "{:.0%} → {:.0%}",
    ),
    "voice by the encoder that conditions the network (GE2E)": (
        ("ge2e/before", "ge2e/to_target"),
        "{:.2f} → {:.2f}",
    ),
}


def quality(report: dict) -> str:
    """Make the README's table of quality, one column for each domain of a report."""
    domains = report["figures"].get("domain") or report["figures"]["all"]
    first = next(iter(domains.values()))
    counted = [
        f"{name} ({max(figure['n'] for figure in figures.values())})"
        for name, figures in domains.items()
    ]
    lines = [f"| mean over pairs | {' | '.join(counted)} |", "|---" * (len(domains) + 1) + "|"]
    for label, (keys, pattern) in ROWS.items():
        if all(key in first for key in keys):
            cells = [
                pattern.format(*(figures[key]["mean"] for key in keys))
                for figures in domains.values()
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def minutes(printed: str) -> str:
    """Read from a benchmark's output after how many minutes conversions were usable."""
    found = re.search(r"usable after (\d+) minutes", printed)
    if not found:
        raise SystemExit("error: these weights were not usable at any time; the minutes stay")
    return f"{found[1]} minutes"


if __name__ == "__main__":
    main()
