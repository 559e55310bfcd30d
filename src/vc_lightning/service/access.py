"""The one access rule of the server: a key, or requests of this computer only.

Programs send a key in a header, browsers in a cookie that the page /login sets, and live clients
that can set no headers in their first message. Without keys, only this computer may send requests,
or everyone who uses the name under which a proxy offers the service.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from vc_lightning.common.errors import InputError
from vc_lightning.service.refusal import RefusedError, answer_refusal, as_json, body_of

MIN_KEY_LETTERS = 16
# For the OpenAPI page.
BEARER = HTTPBearer(auto_error=False, description="One of the service's keys.")
HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key in a header.")
OPEN_ROUTES = ("/health", "/docs", "/openapi.json", "/login")
OPEN_FOLDERS = ("/static-offline-docs/",)  # of /docs
LIVE_ROUTE = "/live"
COOKIE = "vc_lightning_key"
COOKIE_SECONDS = 30 * 24 * 3600
MAX_LOGIN_BYTES = 4_096
ASK = "The key of this service"
LOGIN = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>vc_lightning</title>
<style>body{{font:17px system-ui;margin:20vh auto;max-width:22em;padding:0 1em;color:#231429}}
input,button{{font:inherit;width:100%;box-sizing:border-box;padding:.6em;margin:.4em 0}}</style>
<form method="post" action="login"><label for="key">{sentence}</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Open the page</button></form>"""


class Access:
    """Decides which requests may pass.

    Args:
        host: The address that the service listens on.
        keys: The valid keys; with none, only this computer may send requests.
        public_name: Name under which a proxy offers the service to everyone without a key; None:
            to nobody.

    Raises:
        InputError: Other computers can reach the host but there is no key, or a key is not
            printable ASCII of at least 16 characters.
    """

    def __init__(self, host: str, keys: Sequence[str], public_name: str | None = None):
        if not keys and not is_loopback(host):
            raise InputError(
                f"host={host}: other computers can reach it, so it needs a key; set VC_API_KEY or "
                "api_key_file="
            )
        if keys and public_name is not None:
            raise InputError(
                f"public_name={public_name}: opens the service to everyone, and there is a key; "
                "leave one of them out"
            )
        for key in keys:
            if len(key) < MIN_KEY_LETTERS or not key.isascii() or not key.isprintable():
                raise InputError(
                    f"VC_API_KEY, api_key_file: a key has {len(key)} characters; give at least "
                    f"{MIN_KEY_LETTERS} printable ASCII ones, such as `openssl rand -hex 32` prints"
                )
        self._keys = [key.encode() for key in keys]
        self._public_name = public_name and public_name.lower()

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key."""
        return bool(self._keys)

    def is_key(self, sent: str) -> bool:
        """Return whether a key is valid; the time does not depend on its letters."""
        encoded = sent.encode("utf-8", "replace")
        matches = [hmac.compare_digest(encoded, key) for key in self._keys]
        return any(matches)

    def has_key(self, connection: HTTPConnection) -> bool:
        """Return whether a request has a valid key in a header or a valid cookie.

        Raises:
            RefusedError: The key is unknown, or a page of another site sends the cookie.
        """
        scheme, _, key = connection.headers.get("authorization", "").partition(" ")
        key = key if scheme.lower() == "bearer" else connection.headers.get("x-api-key", "")
        if key:
            if self.is_key(key.strip()):
                return True
            raise RefusedError(401, "the key is unknown", unread=True)
        cookie = connection.cookies.get(COOKIE, "").encode("utf-8", "replace")
        matches = [hmac.compare_digest(cookie, _cookie_of(valid)) for valid in self._keys]
        if any(matches):
            _require_same_site(connection)
            return True
        return False

    def admit(self, connection: HTTPConnection) -> None:
        """Let a request pass or refuse it; live clients may send their key later.

        Raises:
            RefusedError: The key is missing or unknown, or the request is from another site's page.
        """
        path = connection.scope["path"]
        if path in OPEN_ROUTES or path.startswith(OPEN_FOLDERS):
            return
        if not self._keys:
            self._require_known_name(connection)
            _require_same_site(connection)
        elif not self.has_key(connection) and not (
            connection.scope["type"] == "websocket" and path == LIVE_ROUTE
        ):
            raise RefusedError(
                401, "give a key: Authorization: Bearer KEY, or X-API-Key: KEY", unread=True
            )

    async def login(self, request: Request) -> Response:
        """Ask a browser's user for the key; store a cookie that proves it."""
        if request.method == "GET":
            return login_page(ASK, 200)
        body = await body_of(request, MAX_LOGIN_BYTES)
        key = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
        if not self.is_key(key):
            return login_page("This key is unknown; give another one", 401)
        answer = RedirectResponse("./", 303)
        answer.set_cookie(
            COOKIE,
            _cookie_of(key.encode()).decode(),
            COOKIE_SECONDS,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _require_known_name(self, connection: HTTPConnection) -> None:
        """Refuse names of other computers, under which a foreign page could reach this one."""
        host = _host_of(f"//{connection.headers.get('host', '')}")
        if not is_loopback(host) and host != self._public_name:
            raise RefusedError(
                403,
                "the header Host names another computer; set a key, or public_name= behind a proxy",
                unread=True,
            )


class AccessMiddleware:
    """ASGI middleware that applies the access rule to every request."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            try:
                self.access.admit(HTTPConnection(scope))
            except RefusedError as error:
                if scope["type"] == "websocket":
                    refusal = as_json(error.status, str(error), {})
                    await WebSocket(scope, receive, send).send_denial_response(refusal)
                    return
                request = Request(scope, receive)
                is_page = scope["path"] == "/" and "text/html" in request.headers.get("accept", "")
                answer: Response = await answer_refusal(request, error)
                if error.status == 401 and is_page:
                    answer = login_page(ASK, 401)
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def login_page(sentence: str, status: int) -> HTMLResponse:
    """Make the page that asks for the key."""
    return HTMLResponse(LOGIN.format(sentence=sentence), status)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is reachable from this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _cookie_of(key: bytes) -> bytes:
    """Make the cookie that proves a key without containing it."""
    return hmac.new(key, COOKIE.encode(), hashlib.sha256).hexdigest().encode()


def _require_same_site(connection: HTTPConnection) -> None:
    """Refuse requests of other sites' pages that are open in a browser here."""
    origin = connection.headers.get("origin")
    if origin is None:
        return
    try:
        sender = urlsplit(origin).netloc
    except ValueError:
        sender = ""
    if sender.lower() != connection.headers.get("host", "").lower():
        raise RefusedError(
            403,
            "the header Origin names another site than Host; send a key, or let the proxy pass on "
            "Host",
            unread=True,
        )


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
