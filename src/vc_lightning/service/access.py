"""Access control: by keys, or for requests of this computer only."""

import hmac
import ipaddress
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from vc_lightning.common.errors import InputError
from vc_lightning.service.refusal import RefusedError

MIN_KEY_LETTERS = 16
BEARER = HTTPBearer(auto_error=False, description="One of the service's keys.")
HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key in a header.")


class Access:
    """FastAPI dependency that refuses requests without a valid key.

    Args:
        host: The address that the service listens on.
        keys: The valid keys; with none, only this computer may send requests.

    Raises:
        InputError: Other computers can reach the host but there is no key, or a key is not
            printable ASCII of at least 16 characters.
    """

    def __init__(self, host: str, keys: Sequence[str]):
        if not keys and not is_loopback(host):
            raise InputError(
                f"host={host}: other computers can reach it, so it needs a key; set VC_API_KEY or "
                "api_key_file="
            )
        for key in keys:
            if len(key) < MIN_KEY_LETTERS or not key.isascii() or not key.isprintable():
                raise InputError(
                    f"VC_API_KEY, api_key_file: a key has {len(key)} characters; give at least "
                    f"{MIN_KEY_LETTERS} printable ASCII ones, such as `openssl rand -hex 32` prints"
                )
        self._keys = [key.encode() for key in keys]

    async def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
        header: Annotated[str | None, Security(HEADER)],
    ) -> None:
        """Let a request pass or refuse it.

        Args:
            request: The request.
            bearer: Its header `Authorization`.
            header: Its header `X-API-Key`.

        Raises:
            RefusedError: The key is missing or unknown, or the request is from another site's page.
        """
        if not self._keys:
            _require_local_page(request)
            return
        key = bearer.credentials if bearer else header
        if key is None:
            raise RefusedError(
                401, "give a key: Authorization: Bearer KEY, or X-API-Key: KEY", unread=True
            )
        sent = key.encode("utf-8", "replace")
        matches = [hmac.compare_digest(sent, valid) for valid in self._keys]
        if not any(matches):
            raise RefusedError(401, "the key is unknown", unread=True)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is reachable from this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _require_local_page(request: Request) -> None:
    """Refuse requests of pages of other sites that a browser on this computer shows."""
    addresses = {"Host": f"//{request.headers.get('host', '')}"}
    if "origin" in request.headers:
        addresses["Origin"] = request.headers["origin"]
    for header, address in addresses.items():
        try:
            host = urlsplit(address).hostname or ""
        except ValueError:
            host = ""
        if not is_loopback(host):
            raise RefusedError(
                403, f"the header {header} names another computer; set a key", unread=True
            )
