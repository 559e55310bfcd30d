"""The web server, which finishes the running requests before it stops."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from vc_lightning.common.errors import InputError, require_within
from vc_lightning.service.app import ConversionApi
from vc_lightning.service.refusal import without_message

log = logging.getLogger(__name__)

BACKLOG = 1024  # connections that wait to be accepted
CLOSE_SECONDS = 1  # for closing the connections at the end
OVERDUE_SECONDS = 2  # after the time for finishing, when a busy machine's server must end anyhow
SEND_BUFFER_BYTES = 2**18  # of the operating system, per connection
UNREAD_SECONDS = 30  # a connection whose client reads nothing for so long is cut
KEEPALIVE_SECONDS = 15  # without traffic, after which the system probes a connection
KEEPALIVE_PROBES = 3  # unanswered ones, after which a connection counts as cut


class Server(uvicorn.Server):
    """Uvicorn server that, at a signal, refuses new requests and finishes the queue before it ends.

    Args:
        api: The endpoints.
        stop_seconds: Time limit for finishing; then the remaining requests are refused.
        opened: Called with the address, such as http://127.0.0.1:8000, once the server listens.
        overdue: Called in a thread if the server has not ended `OVERDUE_SECONDS` after the time
            limit.

    Raises:
        InputError: `stop_seconds` is out of range.
    """

    def __init__(
        self,
        api: ConversionApi,
        stop_seconds: float,
        opened: Callable[[str], object] | None = None,
        overdue: Callable[[], object] | None = None,
    ):
        require_within(0, 1e6, "", stop_seconds=stop_seconds)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        logging.getLogger("uvicorn.error").addFilter(NoMessages())
        config = uvicorn.Config(
            api.app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=1024 * api.live.limits.max_message_kib,
            ws_ping_interval=None,  # a pong would wait behind unread sound; TCP probes connections
            ws_per_message_deflate=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        super().__init__(config)
        self._api = api
        self._stop_seconds = stop_seconds
        self._opened = opened
        self._deadline = float("inf")
        self._overdue = threading.Timer(stop_seconds + OVERDUE_SECONDS, overdue or (lambda: None))
        self._overdue.daemon = True

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until SIGTERM or SIGINT."""
        try:
            super().run(sockets)
        finally:
            self._overdue.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve and log the address."""
        await super().startup(sockets)
        for listener in sockets or []:
            log.info("listening at %s (Ctrl-C stops)", address_of(listener))
            if self._opened is not None:
                self._opened(address_of(listener))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; at a second signal, stop at once."""
        queue = self._api.service.queue
        if not queue.is_stopping:
            self._deadline = time.monotonic() + self._stop_seconds
            self._overdue.start()
        else:
            self._deadline = 0.0
        queue.stop()
        self._api.live.stop()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; uvicorn calls this ten times a second."""
        queue = self._api.service.queue
        if queue.is_stopping:
            is_done = not queue.n_requests and not self._api.live.n_clients
            if is_done or time.monotonic() > self._deadline:
                self._api.service.abandon()
                return True
        return await super().on_tick(counter)


class NoMessages(logging.Filter):
    """Replaces the tracebacks of a logger by type and place, see `without_message`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record that has a traceback; drop those of cut connections and invalid text."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) or record.getMessage().startswith("Cancel "):
            return False  # the page's connections have no end of their own
        if isinstance(error, UnicodeDecodeError):
            return False  # a client sent text that is not UTF-8, and was told so
        if error is not None:
            record.args = record.getMessage().strip(), without_message(error)
            record.msg, record.exc_info, record.exc_text = "%s: %s", None, None
        return True


def bind(host: str, port: int) -> socket.socket:
    """Bind the server's address; port 0 takes any free one.

    The connections that the socket accepts are cut if their client is gone, or reads nothing for
    `UNREAD_SECONDS`.

    Raises:
        InputError: The port is taken, or the host is not an address of this computer.
    """
    require_within(0, 65536, "", port=port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_USER_TIMEOUT", 1000 * UNREAD_SECONDS),
                ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
                ("TCP_KEEPINTVL", KEEPALIVE_SECONDS),
                ("TCP_KEEPCNT", KEEPALIVE_PROBES),
            ):
                if hasattr(socket, name):  # Linux has all of them
                    listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError):
        raise InputError(
            f"port={port}: is taken, or {host} is not an address of this computer; give another"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Format the address of a bound socket, such as http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
