"""Share a weight file on a hub, with a model card written from its header."""

import re
import tempfile
from pathlib import Path

import yaml

from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.files import hub
from vc_lightning.models.files.formats import Card
from vc_lightning.models.files.kinds import KINDS

CONVERT = "python convert.py source=source.wav target=target.wav"
LICENCES = {  # patterns in file headers and the hub's names, the most specific first
    r"CC[ -]BY-SA[ -]4": "cc-by-sa-4.0",
    r"CC[ -]BY-NC[ -]4": "cc-by-nc-4.0",
    r"CC[ -]BY[ -]4": "cc-by-4.0",
    r"CC0": "cc0-1.0",
    r"Apache": "apache-2.0",
    r"\bMIT\b": "mit",
}


def push_to_hub(path: Path | str, repo: str, *, private: bool = False, freq: int = 32) -> str:
    """Upload a weight file as safetensors, and a model card if the repository has none.

    Args:
        path: Any weight file that the project reads, ours or public.
        repo: OWNER/REPO, created if it does not exist.
        private: Whether a created repository is private.
        freq: Frames per code, for public AutoVC files, which do not store it.

    Returns:
        The URL of the commit.

    Raises:
        InputError: The file cannot be used, or the hub cannot be reached or refuses the upload.
    """
    state, card = checkpoints.read(path, *KINDS, freq=freq)
    with tempfile.TemporaryDirectory() as folder:
        file = checkpoints.save(Path(folder, hub.FILE), state, card)
        return hub.upload(file, repo, model_card(card, repo), private=private)


def licence_name(licence: str) -> str:
    """Find the hub's name of a licence.

    Args:
        licence: The licence in the words of a file header.

    Returns:
        A name such as "cc-by-4.0"; "other" for unknown licences.
    """
    found = (name for words, name in LICENCES.items() if re.search(words, licence, re.IGNORECASE))
    return next(found, "other")


def model_card(card: Card, repo: str) -> str:
    """Write the text of a model card (README.md).

    Args:
        card: Header of the weight file.
        repo: OWNER/REPO, for the usage example.
    """
    front = {
        "library_name": "vc_lightning",
        "pipeline_tag": "audio-to-audio",
        "license": licence_name(card.licence),
        "tags": ["voice-conversion", card.kind],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {repo.rpartition('/')[2]}",
        f"Weights of a network of the kind `{card.kind}` for vc_lightning"
        + (f", the {card.weights} ones" if card.weights else "")
        + (f" after {card.step} steps of training." if card.step else "."),
    ]
    if use := _use(card.kind, repo):
        parts += ["## Use", f"```\n{use}\n```"]
    parts += [
        "## Training data",
        card.trained_on or "Not stated in the file's header.",
        "## Licence",
        card.licence or "Not stated in the file's header.",
        "## Ethics",
        "Convert only voices whose owners agreed, and label every conversion as synthetic.",
        "## Settings",
        _table("network", card.network),
        _table("mel", card.mel),
    ]
    if card.speaker_encoder:
        parts.append(f"Speaker encoder: `{card.speaker_encoder}`")
    return "\n\n".join(parts) + "\n"


def _use(kind: str, repo: str) -> str:
    """Write an example of how the weights in a repository are used; "" for none."""
    if kind == AutoVC.kind:
        return (
            "from vc_lightning import VoiceConverter\n\n"
            f'converter = VoiceConverter.from_pretrained("{repo}")\n'
            'wav = converter.convert("source.wav", "target.wav")'
        )
    if vocoder := KINDS[kind].vocoder:
        return f"{CONVERT} vocoder={vocoder} vocoder.path=hf://{repo}"
    return ""


def _table(title: str, values: dict) -> str:
    rows = [f"| {title} | value |", "|---|---|"]
    rows += [f"| {name} | {value} |" for name, value in values.items()]
    return "\n".join(rows)
