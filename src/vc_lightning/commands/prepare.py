"""Prepare recordings for training: python prepare.py check data.dir=FOLDER"""

import logging
from pathlib import Path
from shlex import quote

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.commands.support import cluster, entry_point, paths, training_setup
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.common.parts import Part
from vc_lightning.data.audit import report as audit
from vc_lightning.data.corpora.manifest_file import make_manifest
from vc_lightning.data.modules.recordings import RecordingsDataModule
from vc_lightning.data.modules.voice import VoiceDataModule
from vc_lightning.data.shards import writer as shard_writer

log = logging.getLogger("prepare")

VERBS = {
    "manifest": "make the table of a corpus",
    "check": "audit the recordings",
    "features": "compute the features",
    "shards": "write the features as shards",
}


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="prepare")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Do what `verb` says with the recordings of `data.dir` or `data.manifest`."""
    if cfg.verb is None and cfg.corpus:
        cfg.verb = "manifest"
    entry_point.require_verb(cfg.verb, VERBS)
    require_valid(cfg)
    if cfg.verb == "manifest":
        write_manifest(cfg)
        return
    if cfg.cluster:
        if cluster.run_parts(cfg, "prepare"):
            log.info("the features are complete; train with the same settings")
        return
    training_setup.settle(cfg)
    mel, network = instantiate(cfg.mel), instantiate(cfg.model)
    data = training_setup.build(cfg, mel, network)
    if not isinstance(data, RecordingsDataModule):
        raise InputError(f"{cfg.verb}: data=shards has its features already; give data=folder")
    if cfg.verb == "features":
        compute_features(data, cfg.part)
    elif cfg.verb == "check":
        check(data, Path(cfg.run_dir))
    else:
        write_shards(cfg, data)


def require_valid(cfg: DictConfig) -> None:
    """Raise InputError for values that would otherwise fail after hours of work."""
    if cfg.part is not None:
        Part.parse(cfg.part)
    if cluster.is_split(cfg) and cfg.verb != "features":
        raise InputError(f"part, cluster: only features can be split, not {cfg.verb}")
    require_within(0.001, float("inf"), "", shard_megabytes=cfg.shard_megabytes)
    require_at_least(1, "", shard_utterances=cfg.shard_utterances)
    if cfg.verb == "shards":
        if cfg.output is None:
            raise InputError("shards: name a new folder for them with output=FOLDER")
        shard_writer.require_empty_folder(cfg.output)  # before the features, which may take hours
    elif cfg.output is not None and cfg.verb != "manifest":
        raise InputError(f"output={cfg.output}: goes with manifest and shards, not {cfg.verb}")
    if bool(cfg.corpus) != (cfg.verb == "manifest"):
        raise InputError(
            "corpus: makes a manifest, to be given to the other verbs as data.manifest=TABLE"
            if cfg.corpus
            else "manifest: name a corpus, such as corpus=vctk root=FOLDER"
        )


def write_manifest(cfg: DictConfig) -> None:
    """Write the manifest of `corpus=`, and say what is in it and what was left out."""
    if cfg.root is None:
        raise InputError("root: say where the corpus is with root=FOLDER")
    path = paths.writable_path(cfg.output or "manifest.tsv", "output", ".tsv")
    if path.exists():
        raise InputError(f"output={path}: exists already; name another file")
    made = make_manifest(
        instantiate(cfg.corpus),
        min_seconds=cfg.min_seconds,
        max_per_speaker=cfg.max_per_speaker,
        val_speakers=cfg.val_speakers,
        test_speakers=cfg.test_speakers,
        seed=cfg.seed,
    )
    made.write(path)
    log.info("%s", "\n".join(made.summary()))
    log.info("train:   %s data.manifest=%s", resources.command("train"), quote(str(path)))


def compute_features(data: RecordingsDataModule, part: str | None) -> None:
    """Compute the missing features of all recordings, or of one part of them."""
    _, usable = data.prepare_part(Part.parse(part or "1/1"))
    of = f"part {part}: " if part else ""
    log.info("%sfeatures of %d recordings, %d are unusable", of, len(usable), len(data.unusable))


def check(data: RecordingsDataModule, folder: Path) -> None:
    """Log the audit of the recordings, and write it for TensorBoard.

    Args:
        data: The recordings.
        folder: Its subfolder `tensorboard` gets the audit.
    """
    data.setup("fit")
    report = audit.audit(data)
    log.info("%s", audit.table(report))
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        audit.write(report, writer)
    log.info("look:    tensorboard --logdir %s", quote(str(folder)))


def write_shards(cfg: DictConfig, data: RecordingsDataModule) -> None:
    """Write the features as shards into `output`."""
    if not isinstance(data, VoiceDataModule):
        raise InputError("shards: hold no waveforms, which vocoders need; give data=folder")
    data.setup("fit")
    shard_writer.write(data, cfg.output, cfg.shard_megabytes, cfg.shard_utterances)


def run() -> None:
    """Run `python prepare.py`, or `vc-prepare` where the package is installed."""
    entry_point.run(main, "prepare")
