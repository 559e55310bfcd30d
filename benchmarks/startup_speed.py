"""How long a training takes to start over recordings that are all in the feature cache.

    python benchmarks/startup_speed.py [1000 3000 10000]

The recordings are one example with other bytes at its end, so that every file is another content
with features of its own; those are copied, not computed.
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vc_lightning.common import resources
from vc_lightning.data.audit import report as audit
from vc_lightning.data.datamodule import VoiceDataModule
from vc_lightning.models.checkpoints import read_speaker_encoder

SPEAKERS = 100


def module(folder: Path) -> VoiceDataModule:
    """The data module that `python train.py data.dir=folder/wavs` has."""
    overrides = [f"data.dir={folder}/wavs", f"data.cache_dir={folder}/cache", "run_dir=."]
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    encoder, card = read_speaker_encoder(resources.SPEAKER_ENCODER)
    return instantiate(
        cfg.data,
        mel=instantiate(cfg.mel),
        speaker_encoder=encoder,
        encoder_identity=card.speaker_encoder,
    )


def add_recordings(folder: Path, numbers: range) -> None:
    """Writes recordings and puts features of theirs into the cache."""
    example = (resources.ROOT / "examples/source.wav").read_bytes()
    features = module(folder).features
    template = folder / "template.wav"
    template.write_bytes(example)
    (segments,) = features.prepare([template], 0, show_progress=False)[0].values()
    names = (features.files.mel_file, features.files.voice_file)
    for number in numbers:
        path = folder / "wavs" / f"speaker{number % SPEAKERS}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example + number.to_bytes(4, "little"))
        content = features.remember(path)
        for name in names:
            copy = name(content, 0)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name(segments[0].content, 0), copy)


def main() -> None:
    """Prints a row for every number of recordings."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [1000, 3000, 10000]
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
                audit.summary(audit.audit(data.train, data.val, data.unusable, data.features))
                next(iter(data.train_dataloader()))
                seconds.append(time.perf_counter() - since)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{size:>10} {seconds[0]:>10.2f} s {seconds[1]:>7.2f} s "
                f"{seconds[1] / size * 1e6:>6.0f} µs {memory:>8.0f} MiB"
            )


if __name__ == "__main__":
    main()
