"""WebSocket server that converts live sound of other programs."""

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.live import protocol
from vc_lightning.live.protocol import Hello, ProtocolError

log = logging.getLogger("live")

MIN_TOKEN_LETTERS = 16
HELLO_SECONDS = 10.0  # time limit for a client's first message
CLOSE_SECONDS = 2.0  # time limit for a client's answer to the end of a connection
KEEPALIVE_SECONDS = 15  # without traffic, after which the system probes a connection
KEEPALIVE_PROBES = 3  # unanswered ones, after which a connection counts as cut
SEND_BUFFER_BYTES = 2**16  # of the operating system, per client
MAX_QUEUE = 4  # messages of a client that wait

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
OpenStream = Callable[[Hello], VoiceStream]


@dataclass(frozen=True)
class Limits:
    """Limits of one client.

    Attributes:
        max_clients: Maximum number of connections at a time.
        max_message_kib: Maximum size of one message, in KiB.
        max_unread_seconds: Longest time for which a client may leave its messages unread.
        max_idle_seconds: Longest time between two messages of a client.
    """

    max_clients: int
    max_message_kib: int
    max_unread_seconds: float
    max_idle_seconds: float


class LiveServer:
    """Serves clients, each with a stream of its own.

    Args:
        open_stream: Opens the stream for a client's first message; may raise `InputError`.
        limits: Limits of a client.
        token: Token that clients must send; None: no token is needed.

    Raises:
        InputError: A limit is out of range or the token is too short.
    """

    def __init__(self, open_stream: OpenStream, limits: Limits, token: str | None):
        require_at_least(
            1, "serve", max_clients=limits.max_clients, max_message_kib=limits.max_message_kib
        )
        require_within(
            0.1,
            1e6,
            "serve",
            max_unread_seconds=limits.max_unread_seconds,
            max_idle_seconds=limits.max_idle_seconds,
        )
        if token is not None and len(token) < MIN_TOKEN_LETTERS:
            raise InputError(f"serve.token: give at least {MIN_TOKEN_LETTERS} letters")
        self.limits = limits
        self.n_clients = 0
        self._open_stream = open_stream
        self._token = token
        self._pool = ThreadPoolExecutor(limits.max_clients, "live client")

    async def run(self, host: str, port: int, started: Callable[[int], asyncio.Event]) -> None:
        """Serve until the event of `started` is set.

        Args:
            host: Name or address to listen on.
            port: 0 for a free one.
            started: Called with the port once the server listens; returns the event that stops it.
        """
        async with serve(
            self._handle,
            host,
            port,
            origins=[None] if self._token is None else None,  # no web page without a token
            compression=None,
            max_size=1024 * self.limits.max_message_kib,
            max_queue=MAX_QUEUE,
            write_limit=SEND_BUFFER_BYTES,
            # A client's pong would wait behind its unread sound; TCP keep-alive probes instead.
            ping_interval=None,
            close_timeout=CLOSE_SECONDS,
        ) as server:
            await started(server.sockets[0].getsockname()[1]).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, client: ServerConnection) -> None:
        """Serve one connection, from the first message to the last."""
        is_admitted = self.n_clients < self.limits.max_clients
        self.n_clients += is_admitted
        try:
            _watch(client)
            if not is_admitted:
                raise ProtocolError(
                    protocol.BUSY, f"{self.limits.max_clients} clients are connected; try later"
                )
            await self._converse(client)
            await client.close()
        except ProtocolError as error:
            log.info("client refused: %s", error.sentence)
            with contextlib.suppress(ConnectionClosed, ProtocolError):
                await self._send(client, json.dumps({"error": error.sentence}))
                await client.close(error.code, protocol.reason(error.sentence))
        except ConnectionClosed:
            log.debug("a client left")
        finally:
            self.n_clients -= is_admitted

    async def _converse(self, client: ServerConnection) -> None:
        hello = protocol.read_hello(
            await self._receive(client, HELLO_SECONDS, "no first message came")
        )
        if self._token is not None and not hmac.compare_digest(
            (hello.token or "").encode(), self._token.encode()
        ):
            raise ProtocolError(protocol.POLICY, "the token is missing or wrong")
        try:
            stream = await self._in_thread(self._open_stream, hello)
        except InputError as error:
            raise protocol.of_input_error(error) from None
        answer = {
            "rate": stream.sample_rate,
            "format": hello.format,
            "block_seconds": stream.block_seconds,
            "latency_seconds": round(stream.latency_seconds, 4),
            "voice": hello.voice,
        }
        await self._send(client, json.dumps(answer))
        log.info("a client speaks at %d Hz, %s", hello.rate, hello.format)
        while True:
            message = await self._receive(client, self.limits.max_idle_seconds, "no message came")
            if isinstance(message, str):
                protocol.is_end(message)
                await self._send_sound(client, await self._in_thread(stream.flush), hello)
                return
            samples = protocol.decode(message, hello.format)
            # In short pieces, so that the end of a connection is noticed between them.
            for start in range(0, len(samples), stream.block_samples):
                piece = samples[start : start + stream.block_samples]
                made = await self._in_thread(stream.push, piece)
                await self._send_sound(client, made, hello)

    async def _in_thread(
        self, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)

    async def _receive(
        self, client: ServerConnection, seconds: float, sentence: str
    ) -> str | bytes:
        try:
            async with asyncio.timeout(seconds):
                return await client.recv()
        except TimeoutError:
            raise ProtocolError(protocol.POLICY, f"{sentence} for {seconds:g} s") from None

    async def _send_sound(
        self, client: ServerConnection, samples: np.ndarray, hello: Hello
    ) -> None:
        if len(samples):
            await self._send(client, protocol.encode(samples, hello.format))

    async def _send(self, client: ServerConnection, message: str | bytes) -> None:
        """Send a message; close the connection of a client that does not read."""
        try:
            async with asyncio.timeout(self.limits.max_unread_seconds):
                await client.send(message)
        except TimeoutError:
            client.transport.abort()  # a closing message would wait behind the unread ones
            raise ProtocolError(
                protocol.POLICY,
                f"nothing was read for {self.limits.max_unread_seconds:g} s",
            ) from None


@contextlib.contextmanager
def serving(server: LiveServer, host: str, port: int) -> Iterator[str]:
    """Listen while the block runs; close all connections at its end (code 1001).

    Args:
        server: The server.
        host: Name or address to listen on.
        port: 0 for a free one.

    Yields:
        The address for clients.

    Raises:
        InputError: The address is not usable or the port is taken.
    """
    started: Future[tuple[int, Callable[[], object]]] = Future()

    def ready(port: int) -> asyncio.Event:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        started.set_result((port, lambda: loop.call_soon_threadsafe(stopping.set)))
        return stopping

    def listen() -> None:
        try:
            asyncio.run(server.run(host, port, ready))
        except (OSError, OverflowError) as error:
            if started.done():
                raise
            started.set_exception(
                InputError(
                    f"serve.host={host} serve.port={port}: cannot listen there ({error}); "
                    "choose another port"
                )
            )

    thread = threading.Thread(target=listen, name="live server", daemon=True)
    thread.start()
    number, stop = started.result()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"ws://{shown}:{number}"
    finally:
        stop()
        thread.join()


def require_token_beyond_loopback(host: str, token: str | None) -> None:
    """Refuse to listen beyond this computer without a token.

    Args:
        host: Name or address.
        token: None for none.

    Raises:
        InputError: The host is unknown, or other computers can reach it and there is no token.
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, 0)} if host else set()
    except (OSError, UnicodeError) as error:
        raise InputError(f"serve.host={host}: is not known ({error})") from None
    is_loopback = found and all(ipaddress.ip_address(str(ip)).is_loopback for ip in found)
    if not is_loopback and token is None:
        raise InputError(
            f"serve.host={host}: others could listen in; set a token (serve.token= or the variable "
            "VC_LIVE_TOKEN), or use 127.0.0.1"
        )


def _watch(client: ServerConnection) -> None:
    """Let the system detect a cut connection, and buffer little for a slow client."""
    sock: socket.socket = client.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
