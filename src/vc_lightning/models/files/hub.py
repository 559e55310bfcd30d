"""Weights on a model hub with Hugging Face's protocol: `hf://OWNER/REPO[/FILE][@REVISION]`.

The package huggingface_hub, imported on first use, handles the cache, the offline mode
(HF_HUB_OFFLINE=1), tokens (`hf auth login`) and the address of the hub (HF_ENDPOINT).
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from logging import WARNING, getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from vc_lightning.common.errors import InputError, needs_extra

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = re.compile(r"hf:/{1,2}")  # Path merges the two slashes
FILE = "model.safetensors"  # for addresses without a file
SUFFIX = ".safetensors"
SHA256_DIGITS, SHA1_DIGITS = 64, 40
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class HubAddress:
    """A file on the hub.

    Attributes:
        repo: OWNER/REPO.
        file: Its path in the repository.
        revision: A branch, tag or commit; None is the main branch.
    """

    repo: str
    file: str = FILE
    revision: str | None = None

    def __str__(self) -> str:
        """Format the address."""
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repo}/{self.file}{revision}"


def is_address(path: Path | str) -> bool:
    """Return whether a path is an address on the hub."""
    return SCHEME.match(str(path)) is not None


def local_path(path: Path | str) -> Path | str:
    """Download the file of an address unless it is in the cache; return other paths unchanged.

    Args:
        path: An address, or the path of a file.

    Raises:
        InputError: The address is invalid or its file cannot be downloaded.
    """
    return download(parse(path)) if is_address(path) else path


def parse(text: Path | str) -> HubAddress:
    """Parse an address.

    Args:
        text: `hf://OWNER/REPO[/FILE][@REVISION]`; a Path may have lost a slash.

    Raises:
        InputError: The text is not an address, or the file is not safetensors.
    """
    rest, at, revision = SCHEME.sub("", str(text)).partition("@")
    owner, _, rest = rest.partition("/")
    repo, _, file = rest.partition("/")
    if not owner or not repo or (at and not revision) or ".." in file.split("/"):
        raise InputError(f"{text}: is not an address; write hf://OWNER/REPO[/FILE][@REVISION]")
    address = HubAddress(f"{owner}/{repo}", file or FILE, revision or None)
    if not address.file.endswith(SUFFIX):
        raise InputError(
            f"{address}: only {SUFFIX} files are read from a hub, because others may hold code; "
            "download it and give its path if you trust its owner"
        )
    return address


def named(name: str, revision: str | None = None) -> HubAddress:
    """Make an address from a name.

    Args:
        name: `OWNER/REPO[/FILE][@REVISION]`, with or without hf://.
        revision: A branch, tag or commit, for a name without one.

    Raises:
        InputError: The name is not valid.
    """
    address = parse(name if is_address(name) else f"hf://{name}")
    return address if revision is None else replace(address, revision=revision)


def download(address: HubAddress) -> Path:
    """Return the cached file of an address; download it if it is missing or has changed.

    Raises:
        InputError: The file cannot be downloaded, is not a safetensors file, or has a wrong hash.
    """
    with _sentences(str(address)):
        path = Path(_api().hf_hub_download(address.repo, address.file, revision=address.revision))
    _require_hash(path, address)
    with path.open("rb") as file:
        if file.read(9)[8:9] != b"{":
            raise InputError(f"{address}: is not a safetensors file, despite its name")
    return path


def upload(path: Path, repo: str, card: str, *, private: bool) -> str:
    """Upload a weight file as model.safetensors, and a model card if the repository has none.

    Args:
        path: The safetensors file.
        repo: OWNER/REPO, created if it does not exist.
        card: Text of the model card (README.md).
        private: Whether a created repository is private.

    Returns:
        The URL of the commit.

    Raises:
        InputError: The hub cannot be reached or refuses the upload.
    """
    address = named(repo)
    with _sentences(f"hf://{address.repo}"):
        from huggingface_hub import CommitOperationAdd

        api = _api()
        api.create_repo(address.repo, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(FILE, path)]
        if not api.file_exists(address.repo, "README.md"):
            operations.append(CommitOperationAdd("README.md", card.encode()))
        made = api.create_commit(address.repo, operations, commit_message=f"Upload {path.name}")
    return made.commit_url


def _api() -> "HfApi":
    """Return a client of the hub at HF_ENDPOINT, by default Hugging Face's."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # an error is one sentence, see `_sentences`
    for name in ("httpx", "httpx2"):
        getLogger(name).setLevel(WARNING)
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="vc_lightning")


@contextlib.contextmanager
def _sentences(address: str) -> Iterator[None]:
    """Turn exceptions of the package into an InputError of one sentence about an address."""
    with needs_extra(f"{address}:", "hub"):
        from huggingface_hub import errors
    known: dict[type[Exception], str] = {  # the more specific ones first
        errors.GatedRepoError: "its owner grants access on request; accept the terms on its page, "
        "then `hf auth login`",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private; check the "
        "name, or log in by `hf auth login`",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RemoteEntryNotFoundError: "the repository has no such file; write "
        "hf://OWNER/REPO/FILE",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE forbids downloads; unset it",
        errors.LocalEntryNotFoundError: "is not in the cache, and the hub cannot be reached; check "
        "the network, HF_ENDPOINT and HF_HUB_OFFLINE",
    }
    try:
        yield
    except tuple(known) as error:
        sentence = next(known[kind] for kind in known if isinstance(error, kind))
        raise InputError(f"{address}: {sentence}") from error
    except errors.HFValidationError as error:
        raise InputError(f"{address}: is not an address on a hub ({_first_line(error)})") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "log in by `hf auth login`" if status in (401, 403) else "try again later"
        raise InputError(f"{address}: the hub answers with status {status}; {hint}") from error
    except (errors.HTTPError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise InputError(
            f"{address}: the transfer failed ({_first_line(error)}); try again"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _require_hash(path: Path, address: HubAddress) -> None:
    """Check a cached file against its hash on the hub, which is the name of its blob."""
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]+", blob.name):
        return  # without symbolic links the cache stores no hash
    digest = {SHA256_DIGITS: hashlib.sha256(), SHA1_DIGITS: hashlib.sha1()}.get(len(blob.name))
    if digest is None:
        return
    if len(blob.name) == SHA1_DIGITS:  # Git's hash of a blob
        digest.update(f"blob {blob.stat().st_size}\0".encode())
    with blob.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise InputError(
            f"{address}: the downloaded file did not have the hub's hash and was deleted; try again"
        )
