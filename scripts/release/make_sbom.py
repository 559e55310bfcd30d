"""Add the shipped weights to a list of packages (SBOM, CycloneDX JSON).

    cyclonedx-py environment ENVIRONMENT --output-format JSON --output-file PACKAGES.json
    python scripts/release/make_sbom.py PACKAGES.json OUTPUT.json

Every weight file becomes a component of the kind machine-learning-model with its SHA-256, licence,
origin, training data and the script that made it, from checkpoints/weights.json.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "checkpoints" / "weights.json"


def main(packages: Path, output: Path) -> None:
    """Write the completed list.

    Args:
        packages: The list of packages.
        output: The list of packages and weights.
    """
    listed = json.loads(packages.read_text(encoding="utf-8"))
    weights = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    listed.setdefault("components", []).extend(
        component(name, entry) for name, entry in weights.items()
    )
    output.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def component(name: str, entry: dict) -> dict:
    """Describe a weight file as a component.

    Args:
        name: Its file name.
        entry: Its entry in weights.json.
    """
    noted = ("origin", "script", "trained_on")
    return {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{entry['sha256']}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
        "licenses": [{"license": {"name": entry["licence"]}}],
        "properties": [{"name": f"vc_lightning:{key}", "value": entry[key]} for key in noted],
    }


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
