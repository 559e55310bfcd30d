"""Resuming a training run: find the checkpoint, and compare its settings with the new ones."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vc_lightning.common.errors import InputError
from vc_lightning.models.checkpoints import read_training
from vc_lightning.models.files.formats import Card

log = logging.getLogger(__name__)

FREE_KEYS = (  # may differ: they do not affect what a given number of steps learns
    *("run_dir", "ckpt_path", "init_from", "ckpt_freq", "speaker_encoder", "compile"),
    *("task_name", "tags", "print_config", "monitor", "optimized_metric", "trained_on", "licence"),
    *("checkpoint", "logger", "callbacks.samples", "callbacks.progress", "callbacks.throughput"),
    "callbacks.conversion_monitor",
    "data._target_",  # renamed in 0.4.0; other data have other keys
    *("data.cache_dir", "data.num_workers", "data.pin_memory"),
    *("data.check", "data.shard_megabytes", "data.shard_utterances"),  # of version 0.3.0
    "init_freq",  # ckpt_freq in version 0.3.0
    *("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "trainer.profiler"),
    *("trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.limit_val_batches"),
    *("trainer.limit_test_batches", "trainer.benchmark", "trainer.detect_anomaly"),
    *("trainer.log_every_n_steps", "trainer.default_root_dir", "trainer.num_sanity_val_steps"),
)
STORED_KEYS = ("optimizer", "scheduler")  # must not differ: the checkpoint's state overrides them
CARD_KEYS = ("model", "mel")  # compared by the card that they make


def newest(runs: Path, checkpoint_dir: Path) -> Path:
    """Find the newest `last.ckpt` below a folder of runs, or in this run's own folder.

    Raises:
        InputError: There is none.
    """
    found = [*runs.glob("*/checkpoints/last.ckpt"), *checkpoint_dir.glob("last.ckpt")]
    if not found:
        raise InputError(
            f"ckpt_path=last: no run below {runs} has a checkpoints/last.ckpt; name the file"
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def place_loops(checkpoint: dict, epoch: int, batch: int, batches_per_epoch: int) -> None:
    """Write a position in the data into a checkpoint, as the state of Lightning's loops.

    A checkpoint may be saved at any place of a step. Lightning 2.6 counts on from some of these
    places wrongly, such as from the last batch of an epoch with `max_steps`; from the state written
    here it counts on rightly: in an epoch, the state at the end of a training step; before its
    first batch (see also `WeightFiles.on_train_start`), that of whole epochs.

    Args:
        checkpoint: Content of a `last.ckpt`, which is changed.
        epoch: Epoch to go on in.
        batch: Number of its batches that are done.
        batches_per_epoch: Number of batches in an epoch.
    """
    is_within = batch > 0
    loops = checkpoint["loops"]["fit_loop"]
    ended = {"completed": epoch, "processed": epoch}
    begun = {"ready": epoch + is_within, "started": epoch + is_within}
    loops["epoch_progress"] = {"total": ended | begun, "current": ended | begun}
    done = {"total": epoch * batches_per_epoch + batch, "current": batch}
    loops["epoch_loop.batch_progress"] = {"is_last_batch": False} | {
        kind: dict.fromkeys(("ready", "started", "processed"), n) | {"completed": n - is_within}
        for kind, n in done.items()
    }
    steps = checkpoint["global_step"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps - is_within


def require_same_training(path: str, card: Card, config: dict) -> None:
    """Compare a checkpoint with the run that resumes it; warn of keys that differ.

    Args:
        path: The checkpoint, perhaps of an older version.
        card: Card of this training run.
        config: Configuration of this training run.

    Raises:
        InputError: Network, mels, speaker encoder, or settings of optimizer or scheduler differ.
    """
    stored, stored_config = read_training(path)
    for name in ("network", "mel", "speaker_encoder"):
        if getattr(stored, name) != getattr(card, name):
            raise InputError(
                f"ckpt_path={path}: its {name} is {getattr(stored, name)}, that of this training "
                f"run {getattr(card, name)}; resume with the settings it was started with"
            )
    before, now = with_bare_targets(stored_config), with_bare_targets(config)
    differing = dict(changed_keys(before, now)) if stored_config else {}
    for key, (old, new) in differing.items():
        if _below(key, STORED_KEYS):
            raise InputError(
                f"ckpt_path={path}: {key} was {old} and is {new} now, but the checkpoint holds "
                f"the state of the old one; give {key}={old}, or start a new training run "
                "from the weights with init_from="
            )
    for key, (old, new) in differing.items():
        log.warning("resuming with another %s: %s, was %s", key, new, old)


def with_bare_targets(value: Any) -> Any:
    """Copy a configuration without the modules of our classes, which may have moved."""
    if isinstance(value, list):
        return [with_bare_targets(entry) for entry in value]
    if not isinstance(value, dict):
        is_ours = isinstance(value, str) and value.startswith("vc_lightning.")
        return value.rpartition(".")[2] if is_ours else value
    return {name: with_bare_targets(entry) for name, entry in value.items()}


def changed_keys(before: dict, now: dict, prefix: str = "") -> Iterator[tuple[str, tuple]]:
    """Yield the dotted names and both values of settings that differ and may change the result."""
    for name in sorted(before.keys() | now.keys()):
        key = f"{prefix}{name}"
        old, new = before.get(name), now.get(name)
        if old == new or _below(key, FREE_KEYS + CARD_KEYS):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changed_keys(old, new, f"{key}.")
        else:
            yield key, (old, new)


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
