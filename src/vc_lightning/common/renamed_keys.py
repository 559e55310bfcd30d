"""Configuration keys that were renamed: the one table of old and new names.

The command line refuses an old key and names the new one. A `last.ckpt` that was written under
the old names is resumed as if it had been written under the new ones.
"""

from typing import Any

RENAMED_KEYS = {
    "loss": "task",
    "data.warps": "data.vtlp_factors",
    "data.warp_probability": "data.vtlp_probability",
    "data.voice_warps": "data.vtlp_target_factors",
    "data.voice_warp_probability": "data.vtlp_target_probability",
    "callbacks.diagnosis": "callbacks.conversion_monitor",
    "judges": "scorers",
}
RENAMED_CLASSES = {
    "LitAutoVC": "AutoVCModule",
    "LitWaveRNN": "WaveRNNModule",
    "Diagnosis": "ConversionMonitor",
}
# VoiceDataModule once served vocoders as well, which `context_frames` selected.
CONVERTER_DATA_KEYS = (
    *("speaker_embedding", "vtlp_factors", "vtlp_probability", "vtlp_target_factors"),
    *("vtlp_target_probability", "augmentations", "write_shards", "shard_megabytes"),
    "shard_utterances",
)
VOCODER_DATA_KEYS = ("context_frames", "mels_from")


def current_key(key: str) -> str | None:
    """Find the new name of a renamed key.

    Args:
        key: Dotted name, such as "loss.decoder_weight".

    Returns:
        The new dotted name, or None where the key was not renamed.
    """
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def with_current_names(config: dict) -> dict:
    """Rename the keys and classes of an old checkpoint's configuration.

    A `_target_` of this package loses its module path, because modules have moved.

    Args:
        config: Plain values, as a `last.ckpt` holds them.

    Returns:
        A new configuration; `config` is unchanged.
    """
    current = _renamed(config, "")
    data = current.get("data")
    if isinstance(data, dict) and data.get("_target_") == "VoiceDataModule":
        for_vocoder = data.get("context_frames") is not None
        if for_vocoder:
            data["_target_"] = "VocoderDataModule"
        for key in CONVERTER_DATA_KEYS if for_vocoder else VOCODER_DATA_KEYS:
            data.pop(key, None)
    return current


def _renamed(value: Any, prefix: str) -> Any:
    """Copy a configuration under its current names; `prefix` is the value's own dotted name."""
    if isinstance(value, list):
        return [_renamed(entry, prefix) for entry in value]
    if not isinstance(value, dict):
        return value
    renamed = {}
    for name, entry in value.items():
        key = f"{prefix}.{name}".lstrip(".")
        new_name = (current_key(key) or key).rpartition(".")[2]
        if name == "_target_" and str(entry).startswith("vc_lightning."):
            bare = entry.rpartition(".")[2]
            renamed[name] = RENAMED_CLASSES.get(bare, bare)
        else:
            renamed[new_name] = _renamed(entry, key)
    return renamed
