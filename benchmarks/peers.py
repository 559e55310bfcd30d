"""Score the conversions of another project beside ours, on the same pairs and by the same judges.

    python benchmarks/peers.py list PAIRS.tsv … > conversions.tsv
    python benchmarks/peers.py score NAME=FOLDER PAIRS.tsv … --output FOLDER
    python benchmarks/peers.py table OURS/report.json THEIRS/report.json …

`list` names the conversions to make, a line each: the name of the file, the source, and the
recordings of the target separated by `|`. The other project writes its conversions into a folder as
NAME.wav (or .flac); docs/peers.md has recipes for FreeVC, kNN-VC, seed-vc, OpenVoice and RVC.
`score` writes the same report as evaluate.py about them. `table` prints the means of reports side
by side; `python evaluate.py compare=[A/report.json,B/report.json]` says what differs clearly.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.common.progress import Progress, no_progress
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.evaluation import domains, pairs
from vc_lightning.evaluation.evaluator import Evaluator
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.report import files, sound_files
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.part_files import PartialResults
from vc_lightning.evaluation.scores import ScoredConversion
from vc_lightning.evaluation.summary import combine

ASPECTS = ("campplus", "distillmos", "words", "pocketsphinx", "phonemes", "prosody", "dnsmos")
SUFFIXES = (".wav", ".flac")
N_WORST = 3  # of each domain
COLUMNS = {
    "CAM++ to the target": "campplus/to_target",
    "nearer": "campplus/nearer",
    "DistillMOS": "distillmos/conversion",
    "added character errors": "words/added_character_errors",
    "phoneme errors": "phonemes/errors",
    "GE2E to the target": "ge2e/to_target",
    "DNSMOS": "dnsmos/conversion",
}


class PeerEvaluator(Evaluator):
    """Scores conversions that another project has written to files.

    Args:
        converter: Reads recordings, and embeds them by GE2E.
        files: The conversion of each pair.
        aspects: The judges, see `Evaluator`.
    """

    n_timed = 0

    def __init__(self, converter: VoiceConverter, files: dict[tuple, Path], aspects: Sequence[str]):
        super().__init__(converter, aspects, "base", 0, vocoder_alone=False)
        self.files = files

    def convert(
        self,
        pair: Pair,
        source: Recording,
        voice: Voice | None = None,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Read the conversion of a pair."""
        return self.converter.load(self.files[identity(pair)])


def identity(pair: Pair) -> tuple:
    """Return what tells a pair from others."""
    return pair.source, pair.voice, pair.target_reference


def read_pairs(tables: Sequence[Path]) -> list[Pair]:
    """Read tables of pairs, each a domain as in evaluate.py."""
    listed = [pairs.from_table(table, None) for table in tables]
    if len(tables) == 1:
        return listed[0]
    return domains.together(list(zip(domains.names(tables), listed, strict=True)))


def name_of(index: int, pair: Pair) -> str:
    """Return the name of a conversion's file without suffix, such as 000_ann_to_bob."""
    return sound_files.title(index, ScoredConversion(pair, None))


def list_conversions(tables: Sequence[Path]) -> None:
    """Print the conversions to make."""
    for index, pair in enumerate(read_pairs(tables)):
        print(name_of(index, pair), pair.source, "|".join(map(str, pair.voice)), sep="\t")


def score(
    peer: str, folder: Path, tables: Sequence[Path], output: Path, aspects: Sequence[str]
) -> None:
    """Score the conversions in a folder, and write the report.

    Raises:
        InputError: A conversion is missing or unusable.
    """
    listed = read_pairs(tables)
    found = {identity(p): conversion_in(folder, name_of(i, p)) for i, p in enumerate(listed)}
    files.require_folder(str(output), "--output")
    converter = VoiceConverter.from_pretrained()
    evaluator = PeerEvaluator(converter, found, aspects)
    evaluator.analyze(listed)
    results: PartialResults = evaluator.score(dict(enumerate(listed)), [])
    sound_files.write(output, results, converter.sample_rate, {})
    about = {"converter": peer, "pairs": f"{len(listed)} of {', '.join(map(str, tables))}"}
    evaluation = combine(listed, [results], aspects)
    files.write(Contents(evaluation, output, about, converter, N_WORST))
    print_table([output / "report.json"])


def conversion_in(folder: Path, name: str) -> Path:
    """Return the path of a conversion.

    Raises:
        InputError: It is missing.
    """
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise InputError(f"{folder}: {name}{SUFFIXES[0]} is missing; `list` names all conversions")


def print_table(reports: Sequence[Path]) -> None:
    """Print the means of reports by domain, one row a converter and domain."""
    print("| converter | domain |", " | ".join(COLUMNS), "|")
    print("|---|---|" + "---:|" * len(COLUMNS))
    for path in reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        groups = report["figures"]["all"] | report["figures"].get("domain", {})
        for name, means in groups.items():
            cells = [
                f"{means[key]['mean']:.3f}" if key in means else "" for key in COLUMNS.values()
            ]
            print(f"| {report['about']['converter']} | {name} |", " | ".join(cells), "|")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the three verbs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("list", "score"):
        own = verbs.add_parser(verb)
        if verb == "score":
            own.add_argument("peer", help="NAME=FOLDER of its conversions")
            own.add_argument("--output", type=Path, required=True, help="folder of the report")
            own.add_argument("--scorers", default=",".join(ASPECTS), help="judges besides GE2E")
        own.add_argument("tables", type=Path, nargs="+", help="tables of pairs, as in data.pairs=")
    verbs.add_parser("table").add_argument("reports", type=Path, nargs="+", help="report.json")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "list":
            list_conversions(options.tables)
        elif options.verb == "score":
            peer, _, folder = options.peer.partition("=")
            aspects = [name for name in options.scorers.split(",") if name]
            score(peer, Path(folder), options.tables, options.output, aspects)
        else:
            print_table(options.reports)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
