"""Minutes of training until conversions of unseen speakers are usable.

    python benchmarks/minutes_to_convert.py RUN_DIR PAIRS.tsv [PAIRS.tsv …]

Evaluates the averaged weights that a training run has left in RUN_DIR, oldest first, on tables of
pairs (see evaluation/pairs.py), until conversion adds at most 0.25 of the characters as errors
(Whisper base) and 90 % of the conversions are nearer to the target than to the source (CAM++). The
minutes are wall time from the first logged step on, read from the run's TensorBoard log; they do
not include the preparation of the features.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation.evaluator import Evaluator
from vc_lightning.evaluation.pairs import Pair, from_table
from vc_lightning.evaluation.scores import figures

MAX_CHARACTER_ERRORS = 0.25
MIN_NEARER = 0.9
SHOWN = (
    "campplus/to_target",
    "campplus/nearer",
    "words/added_character_errors",
    "distillmos/conversion",
)


def main() -> None:
    """Print one line per weight file, and the first that is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run_dir", type=Path, help="of a training run: its weights and log")
    parser.add_argument("pairs", type=Path, nargs="+", help="tables of pairs")
    parser.add_argument("--first-step", type=int, default=0, help="leave out earlier weights")
    options = parser.parse_args()
    pairs = [pair for table in options.pairs for pair in from_table(table, None)]
    minutes = minutes_of_steps(options.run_dir)
    print("| step | minutes | CAM++ to the target | nearer | added character errors | DistillMOS |")
    print("|---|---|---|---|---|---|")
    for step, path in averages(options.run_dir):
        if step < options.first_step:
            continue
        similarity, nearer, character_errors, naturalness = measured(path, pairs)
        later = (minutes[logged] for logged in sorted(minutes) if logged >= step - 1)
        elapsed = next(later, max(minutes.values()))  # the last steps may not be logged
        print(
            f"| {step} | {elapsed:.1f} | {similarity:.2f} | {nearer:.2f} | {character_errors:.2f} "
            f"| {naturalness:.2f} |",
            flush=True,
        )
        if character_errors <= MAX_CHARACTER_ERRORS and nearer >= MIN_NEARER:
            print(f"\nusable after {elapsed:.0f} minutes")
            return
    print("\nnone of these weights is good enough")


def averages(run_dir: Path) -> list[tuple[int, Path]]:
    """List step and file of all averaged weights of a run, oldest first."""
    files = run_dir.glob("checkpoints/*_step*_average.safetensors")
    steps = ((re.search(r"_step(\d+)_", path.name), path) for path in files)
    return sorted((int(step[1]), path) for step, path in steps if step)


def minutes_of_steps(run_dir: Path) -> dict[int, float]:
    """Read the minutes from the first logged step of a run to each of the others."""
    log = next(run_dir.rglob("events.out.tfevents.*")).parent
    scalars = EventAccumulator(str(log), {"scalars": 0}).Reload().Scalars("train/loss")
    return {scalar.step: (scalar.wall_time - scalars[0].wall_time) / 60 for scalar in scalars}


def measured(path: Path, pairs: Sequence[Pair]) -> list[float]:
    """Compute the means of SHOWN over the conversions of a weight file."""
    converter = VoiceConverter.from_checkpoint(path)
    evaluator = Evaluator(converter, ["campplus", "distillmos", "words"], "base", 0, False)
    evaluator.analyze(pairs)
    results = evaluator.score(dict(enumerate(pairs)), robust=[])
    means = figures(list(results.conversions.values()))
    return [means[key].mean for key in SHOWN]


if __name__ == "__main__":
    main()
