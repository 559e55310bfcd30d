"""Going on with a training: which checkpoint, and whether it is still the same training."""

import logging
from collections.abc import Iterator
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.models.checkpoints import Card, read_training

log = logging.getLogger(__name__)

FREE_KEYS = (  # they change nothing that is learnt, or only how long and where
    *("run_dir", "ckpt_path", "init_from", "init_freq", "speaker_encoder", "compile"),
    *("trained_on", "licence"),
    *("checkpoint", "logger", "callbacks.samples", "callbacks.progress", "callbacks.throughput"),
    *("data.cache_dir", "data.num_workers", "data.pin_memory", "data.check"),
    *("data.write_shards", "data.shard_megabytes", "data.shard_utterances"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "trainer.profiler"),
    *("trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.limit_val_batches"),
    *("trainer.log_every_n_steps", "trainer.default_root_dir", "trainer.num_sanity_val_steps"),
)
STORED_KEYS = ("optimizer", "scheduler")  # the checkpoint's state would silently win over them
CARD_KEYS = ("model", "mel")  # compared by what came of them


def newest(runs: Path, checkpoint_dir: Path) -> Path:
    """The `last.ckpt` written last below a folder of runs, or in this run's own folder.

    Raises: InputError when there is none.
    """
    found = [*runs.glob("*/checkpoints/last.ckpt"), *checkpoint_dir.glob("last.ckpt")]
    if not found:
        raise InputError(
            f"ckpt_path=last: no run below {runs} has a checkpoints/last.ckpt; name the file"
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def require_same_training(path: str, card: Card, config: dict) -> None:
    """Compares a checkpoint with what it is to be resumed with, and says which keys differ.

    Raises: InputError when the network, the mels or the speaker encoder are others, or the
        optimizer's settings, which a checkpoint would silently keep.
    """
    stored, stored_config = read_training(path)
    for name in ("network", "mel", "speaker_encoder"):
        if getattr(stored, name) != getattr(card, name):
            raise InputError(
                f"ckpt_path={path}: its {name} is {getattr(stored, name)}, this training's is "
                f"{getattr(card, name)}; resume with the settings that it was made with"
            )
    both = (_without_modules(values) for values in (stored_config, config))
    differing = dict(changed_keys(*both)) if stored_config else {}
    for key, (before, now) in differing.items():
        if _below(key, STORED_KEYS):
            raise InputError(
                f"ckpt_path={path}: {key} was {before} and is {now} now, but the checkpoint holds "
                f"the state of the old one; give {key}={before}, or begin a new training from the "
                "weights with init_from="
            )
    for key, (before, now) in differing.items():
        log.warning("resuming with another %s: %s, was %s", key, now, before)


def changed_keys(before: dict, now: dict, prefix: str = "") -> Iterator[tuple[str, tuple]]:
    """Dotted names, with both values, of the settings that matter and differ."""
    for name in sorted(before.keys() | now.keys()):
        key = f"{prefix}{name}"
        old, new = before.get(name), now.get(name)
        if old == new or _below(key, FREE_KEYS + CARD_KEYS):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from changed_keys(old, new, f"{key}.")
        else:
            yield key, (old, new)


def _without_modules(value: object) -> object:
    """A configuration whose `_target_`s in this package are bare names: modules have moved."""
    if isinstance(value, dict):
        return {
            key: entry.rpartition(".")[2]
            if key == "_target_" and str(entry).startswith("vc_lightning.")
            else _without_modules(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_without_modules(entry) for entry in value]
    return value


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
