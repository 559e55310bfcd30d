"""Run the service: bind its address, serve, and finish what was begun when it is stopped."""

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
    """Uvicorn, which at a signal first lets the queue finish while it refuses new requests.

    Args:
        config: Of uvicorn.
        queue: What is to be finished.
        stop_seconds: For that; then clients are told that the service stops.
    """

    def __init__(self, config: uvicorn.Config, queue: ConversionQueue, stop_seconds: float):
        super().__init__(config)
        self._queue = queue
        self._stop_seconds = stop_seconds
        self._deadline = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and says where.

        Args:
            sockets: Bound sockets.
        """
        await super().startup(sockets)
        for listener in sockets or []:
            log.info("listening at %s (Ctrl-C stops)", address_of(listener))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; a second signal stops at once.

        Args:
            sig: Number of the signal.
            frame: Where the program was.
        """
        self._deadline = 0.0 if self._queue.is_stopping else time.monotonic() + self._stop_seconds
        self._queue.stop()

    async def on_tick(self, counter: int) -> bool:
        """Tells uvicorn, ten times a second, whether to end.

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
    """Binds the service's address before anything is loaded.

    Args:
        host: Name or address of this computer.
        port: TCP port; 0 takes any free one.

    Raises:
        InputError: The address is taken or not of this computer.
    """
    require_within(0, 65536, "", port=port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, UnicodeError):
        raise InputError(f"port={port}: is taken, or {host} is not here; name another") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The address of a bound socket, such as http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make(api: ConversionApi, stop_seconds: float) -> Server:
    """Makes a server, whose `run` serves until SIGTERM or SIGINT.

    Args:
        api: What answers.
        stop_seconds: For finishing what was begun.

    Raises:
        InputError: stop_seconds is not a sensible number.
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
