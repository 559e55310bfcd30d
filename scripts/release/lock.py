"""Write .ci/requirements.txt: every package of constraints.txt with the hashes of its files.

    pip install uv
    python scripts/release/lock.py

PyTorch is left out, because its build (CPU, CUDA, ROCm) depends on the machine.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS, LOCK = ROOT / "constraints.txt", ROOT / ".ci" / "requirements.txt"
BUILT_PER_MACHINE = "torch"


def main() -> None:
    """Ask the package index for the hashes and write the file."""
    command = ["uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-annotate"]
    command += ["--no-header", "--no-emit-package", BUILT_PER_MACHINE]
    subprocess.run([*command, CONSTRAINTS, "--output-file", LOCK], check=True)


if __name__ == "__main__":
    main()
