"""Write checkpoints/weights.json: checksum, licence, origin and script of every shipped file.

python scripts/weights/make_list.py
"""

import json

from safetensors import safe_open

from vc_lightning.common import resources
from vc_lightning.models.checkpoints import METADATA_KEY
from vc_lightning.models.files.checksums import sha256

TRAINED = "trained for this project on the data named in trained_on"
ORIGINS = {  # where the numbers come from, if not trained for this project
    "pitch_tracker": "model.onnx of the wheel swift-f0 0.3.0 (PyPI), converted",
    "recogniser": "the encoder of Whisper base (OpenAI, MIT), converted",
    "speaker_encoder": "pretrained.pt of the wheel Resemblyzer 0.1.4 (PyPI), converted",
}


def main() -> None:
    """Write the list."""
    text = json.dumps(entries(), indent=2, ensure_ascii=False) + "\n"
    resources.WEIGHTS_LIST.write_text(text, encoding="utf-8")


def entries() -> dict[str, dict]:
    """Describe every shipped weight file."""
    described = {}
    for path in sorted(resources.CHECKPOINTS.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()[METADATA_KEY])
        described[path.name] = {
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
            "kind": card["kind"],
            "step": card["step"],
            "licence": card["licence"],
            "trained_on": card["trained_on"],
            "origin": ORIGINS.get(path.stem, TRAINED),
            "script": f"scripts/weights/make_{path.stem}.py",
        }
    return described


if __name__ == "__main__":
    main()
