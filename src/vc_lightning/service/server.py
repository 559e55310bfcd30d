"""The service's web server, which finishes the running requests before it stops."""

import logging
import socket
import time
from types import FrameType

import uvicorn

from vc_lightning.common.errors import InputError, require_within
from vc_lightning.service.app import ConversionApi
from vc_lightning.service.conversion_queue import ConversionQueue

log = logging.getLogger(__name__)

BACKLOG = 1024  # connections that wait to be accepted


class Server(uvicorn.Server):
    """Uvicorn server that, at a signal, refuses new requests and finishes the queue before it ends.

    Args:
        config: Configuration of uvicorn.
        queue: The queue to finish.
        stop_seconds: Time limit for that; then the remaining requests are refused.
    """

    def __init__(self, config: uvicorn.Config, queue: ConversionQueue, stop_seconds: float):
        super().__init__(config)
        self._queue = queue
        self._stop_seconds = stop_seconds
        self._deadline = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve and log the address.

        Args:
            sockets: Bound sockets.
        """
        await super().startup(sockets)
        for listener in sockets or []:
            log.info("listening at %s (Ctrl-C stops)", address_of(listener))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; at a second signal, stop at once.

        Args:
            sig: Number of the signal.
            frame: Stack frame that the signal interrupted.
        """
        self._deadline = 0.0 if self._queue.is_stopping else time.monotonic() + self._stop_seconds
        self._queue.stop()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; uvicorn calls this ten times a second.

        Args:
            counter: Number of the tick.
        """
        if self._queue.is_stopping:
            if not self._queue.n_requests:
                return True
            if time.monotonic() > self._deadline:
                self._queue.abandon()
                return True
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """Bind the service's address.

    Args:
        host: Name or address of this computer.
        port: TCP port; 0 takes any free one.

    Returns:
        The bound socket.

    Raises:
        InputError: The port is taken, or the host is not an address of this computer.
    """
    require_within(0, 65536, "", port=port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError):
        raise InputError(
            f"port={port}: is taken, or {host} is no address of this computer; give another"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Format the address of a bound socket, such as http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make(api: ConversionApi, stop_seconds: float) -> Server:
    """Make a server, whose `run` serves until SIGTERM or SIGINT.

    Args:
        api: The endpoints.
        stop_seconds: Longest time for finishing running requests.

    Raises:
        InputError: stop_seconds is out of range.
    """
    require_within(0, 1e6, "", stop_seconds=stop_seconds)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        api.app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=5,
    )
    return Server(config, api.queue, stop_seconds)
