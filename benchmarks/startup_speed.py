"""Start time of a training run whose features are all cached, or duration of a whole conversion.

    python benchmarks/startup_speed.py [1000 3000 10000]
    python benchmarks/startup_speed.py --convert [--against CHECKOUT]

The recordings of a training run are one example with different bytes at its end, so that every file
has features of its own; these are copied, not computed.

`--convert` runs the README's example as a command, in turns with that of another checkout, and then
prints the import time by package. On a busy machine, compare CPU times.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vc_lightning.common import resources
from vc_lightning.data.audit import report as audit
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.modules.voice import VoiceDataModule
from vc_lightning.models.checkpoints import read_speaker_encoder

SPEAKERS = 100
EXAMPLE = ["convert.py", "source=examples/source.wav", "target=examples/target.wav"]
SHOWN_PACKAGES = 8


def module(folder: Path) -> VoiceDataModule:
    """Build the data module of `python train.py data.dir=folder/wavs experiment=none`."""
    overrides = [f"data.dir={folder}/wavs", f"data.cache_dir={folder}/cache", "run_dir=."]
    overrides += ["experiment=none"]  # mels, pitch and embeddings only
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    encoder, card = read_speaker_encoder(resources.SPEAKER_ENCODER)
    needs = FeatureNeeds(instantiate(cfg.mel), encoder, card.speaker_encoder)
    return instantiate(cfg.data, _convert_="all").build(needs)


def add_recordings(folder: Path, numbers: range) -> None:
    """Write recordings, and their features into the cache."""
    example = (resources.ROOT / "examples/source.wav").read_bytes()
    features = module(folder).features
    template = folder / "template.wav"
    template.write_bytes(example)
    (segments,) = features.prepare([template], 0, show_progress=False)[0].values()
    for number in numbers:
        path = folder / "wavs" / f"speaker{number % SPEAKERS}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example + number.to_bytes(4, "little"))
        content = features.remember(path)
        for feature in ("mels", "voices"):
            copy = features.files.path(feature, content)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(features.files.path(feature, segments[0].content), copy)


def compare_conversions(checkouts: list[Path], rounds: int) -> None:
    """Print a row for the README's example in every checkout, and for importing PyTorch alone."""
    commands = {str(checkout): (EXAMPLE, checkout) for checkout in checkouts}
    commands["import torch"] = (["-c", "import torch"], resources.ROOT)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):  # the first one fills the disk's cache
            for name, (arguments, checkout) in commands.items():
                output = [f"output={folder}/conversion.wav"] if arguments == EXAMPLE else []
                taken[name].append(seconds_of([*arguments, *output], checkout))
        print(f"{'':40} {'wall':>8} {'least':>8} {'CPU':>8}")
        for name, rows in taken.items():
            wall, cpu = zip(*rows[1:], strict=True)
            print(
                f"{name[-40:]:40} {statistics.median(wall):6.2f} s {min(wall):6.2f} s "
                f"{statistics.median(cpu):6.2f} s"
            )
        print_imports([*EXAMPLE, f"output={folder}/conversion.wav"])


def seconds_of(arguments: list[str], checkout: Path) -> tuple[float, float]:
    """Measure wall and CPU seconds of a Python process in a checkout."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    python(arguments, checkout)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def python(arguments: list[str], checkout: Path) -> str:
    """Return what a Python process in a checkout writes to its standard error."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True
    ).stderr


def print_imports(arguments: list[str]) -> None:
    """Print the packages that importing takes longest in, by `python -X importtime`."""
    microseconds: Counter[str] = Counter()
    for line in python(["-X", "importtime", *arguments], resources.ROOT).splitlines():
        own, _, name = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            microseconds[name.split("|")[-1].strip().split(".")[0]] += int(own)
    longest = microseconds.most_common(SHOWN_PACKAGES)
    print("imports: " + ", ".join(f"{name} {spent / 1e6:.2f} s" for name, spent in longest))


def main() -> None:
    """Run the measurement that the arguments select."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=[1000, 3000, 10000])
    parser.add_argument("--convert", action="store_true", help="the README's example instead")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.convert:
        others = [arguments.against.resolve()] if arguments.against else []
        compare_conversions([*others, resources.ROOT], arguments.rounds)
    else:
        compare_starts(arguments.sizes)


def compare_starts(sizes: list[int]) -> None:
    """Print a row for every number of recordings."""
    print(
        f"{'recordings':>10} {'first start':>12} {'again':>8} {'per file':>9} {'peak memory':>12}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), 0
        for size in sizes:
            add_recordings(folder, range(before, size))
            before = size
            seconds = []
            for _ in range(2):  # the first time the disk's cache may be cold
                data = module(folder)
                since = time.perf_counter()
                data.setup()
                audit.summary(audit.audit(data))
                next(iter(data.train_dataloader()))
                seconds.append(time.perf_counter() - since)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{size:>10} {seconds[0]:>10.2f} s {seconds[1]:>7.2f} s "
                f"{seconds[1] / size * 1e6:>6.0f} µs {memory:>8.0f} MiB"
            )


if __name__ == "__main__":
    main()
