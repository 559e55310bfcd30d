"""Live speech of the page and of other programs: a bounded number of streams, and who waits."""

import asyncio
import contextlib
import copy
import functools
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect

from vc_lightning.common.errors import InputError
from vc_lightning.common.threads import ThreadChooser, use_one_thread
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.live.pace import Pace, affordable, require_pace
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.conversion.voices.voice import Target, Voice
from vc_lightning.service.access import Access
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.engine.converters import Settings
from vc_lightning.service.limits import LiveLimits
from vc_lightning.service.live import protocol
from vc_lightning.service.live.inbox import Inbox, content_of
from vc_lightning.service.live.protocol import Hello, ProtocolError
from vc_lightning.service.refusal import STOPPING, RefusedError, without_message

log = logging.getLogger(__name__)

MAX_TICKETS = 100  # unused ones; older ones are dropped
TICKET_SECONDS = 120  # validity of a ticket
HELLO_SECONDS = 10.0  # time limit for a client's first message
LOOK_SECONDS = 0.1  # between checks for a free place
STATUS_SECONDS = 1.0  # between messages to clients that wait, and between checks of the limits
HEARD_AMPLITUDE = 0.01  # -40 dBFS: softer sound counts as silence


@dataclass(frozen=True)
class Chosen:
    """What a stream converts with.

    Attributes:
        converter: The converter.
        voice: The target voice.
        seed: Seed of the vocoder.
        speaker: Voice of the person who speaks; None: the stream estimates it.
        earlier: Earlier speech of theirs (n,), see `VoiceStream`; None: there is none.
    """

    converter: VoiceConverter
    voice: Voice
    seed: int
    speaker: Voice | None = None
    earlier: np.ndarray | None = None


class LiveDesk:
    """Serves live clients, each with a stream in a thread of its own, and lets others wait.

    Args:
        service: Finds the voices.
        limits: Limits of the streams.
        access: The access rule, for clients that send their key in the first message.
        default: Voice of clients that name none; None: they must name one.
        block_seconds: Length of a step where a client names none, see `affordable`.
        lookahead_seconds: Look-ahead of a step; None for that in conf/live.yaml.
        listens: See `affordable`.

    Raises:
        InputError: `block_seconds` or `listens` is out of range.

    Attributes:
        n_clients: Clients that speak or wait.
    """

    def __init__(
        self,
        service: ConversionService,
        limits: LiveLimits,
        access: Access,
        default: Voice | None = None,
        block_seconds: float | None = None,
        lookahead_seconds: float | None = None,
        listens: bool | None = None,
    ):
        require_pace("live", block_seconds, listens)
        self.service = service
        self.limits = limits
        self.n_clients = 0
        self._access = access
        self._default = default
        self._block_seconds = block_seconds
        self._lookahead_seconds = lookahead_seconds
        self._listens = listens
        self._pace: Pace | None = None  # measured with the first client
        self._tickets: OrderedDict[str, tuple[float, Chosen]] = OrderedDict()
        self._free = [single_threaded() for _ in range(limits.max_clients)]
        self._line: list[WebSocket] = []  # the waiting ones
        self._is_stopping = False

    async def ticket(self, target: Target, settings: Settings, speaker: Path | None = None) -> str:
        """Issue a ticket for one stream, valid for `TICKET_SECONDS`.

        Args:
            target: The voice: recordings, or the name of a learned one.
            settings: Settings of the stream.
            speaker: A recording of the person who speaks; None: the stream estimates their voice.

        Raises:
            InputError: The voice or the recording cannot be used.
        """
        converter, voice = await self.service.voice(target, settings)
        chosen = Chosen(converter, voice, settings.seed)
        if speaker is not None:
            known, earlier = await self.service.speaker(speaker, converter)
            chosen = replace(chosen, speaker=known, earlier=earlier)
        while len(self._tickets) >= MAX_TICKETS:
            self._tickets.popitem(last=False)
        ticket = secrets.token_urlsafe(16)
        self._tickets[ticket] = time.monotonic(), chosen
        return ticket

    def stop(self) -> None:
        """End all streams after the sound that has come in."""
        self._is_stopping = True

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection, from the first message to the last."""
        await socket.accept()
        try:
            hello = await self._hello(socket)
            with self._counted():
                await self._converse(socket, hello)
            await socket.close(protocol.NORMAL)
        except ProtocolError as error:
            log.info("a live client was refused (%d)", error.code)
            with contextlib.suppress(WebSocketDisconnect, ProtocolError, RuntimeError):
                await self._send(socket, {"error": error.sentence})
                await socket.close(error.code, protocol.reason(error.sentence))
        except WebSocketDisconnect:
            log.debug("a live client left")

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a client, or refuse it if too many speak or wait."""
        self._require_running()
        if self.n_clients >= self.limits.max_clients + self.limits.max_waiting:
            raise ProtocolError(
                protocol.BUSY,
                f"{self.n_clients} clients are speaking or waiting; try again in a few minutes",
            )
        self.n_clients += 1
        try:
            yield
        finally:
            self.n_clients -= 1

    async def _converse(self, socket: WebSocket, hello: Hello) -> None:
        chosen = await self._chosen(hello)
        inbox = Inbox(socket, hello)
        listening = asyncio.create_task(inbox.listen())
        try:
            async with self._place(socket, hello, listening) as thread:
                await self._stream(socket, hello, chosen, inbox, listening, thread)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, ProtocolError):
                await listening

    async def _hello(self, socket: WebSocket) -> Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                message = await socket.receive()
        except TimeoutError:
            raise ProtocolError(
                protocol.POLICY, f"no first message came for {HELLO_SECONDS:g} s"
            ) from None
        content = content_of(message)
        hello = protocol.read_hello(content)
        if self._access.needs_key and not self._access.is_key(hello.token or ""):
            try:
                is_known = self._access.has_key(socket)
            except RefusedError:
                is_known = False
            if not is_known:
                raise ProtocolError(protocol.POLICY, "the token is missing or wrong")
        return hello

    async def _chosen(self, hello: Hello) -> Chosen:
        """Find the voice that a client wants, and the one of its speaker."""
        try:
            if hello.ticket is not None:
                chosen = self._ticket_holder(hello.ticket)
            elif hello.voice is not None:
                settings = self.service.converters.default
                converter, voice = await self.service.voice(hello.voice, settings)
                chosen = Chosen(converter, voice, settings.seed)
            elif self._default is not None:
                settings = self.service.converters.default
                converter = await asyncio.to_thread(self.service.converters.get, settings)
                chosen = Chosen(converter, self._default, settings.seed)
            else:
                raise InputError("voice: the server has no target; name a learned voice")
            if hello.speaker is not None:
                speaker = await asyncio.to_thread(
                    self.service.find_voice, hello.speaker, chosen.converter
                )
                chosen = replace(chosen, speaker=speaker, earlier=None)
        except InputError as error:
            raise ProtocolError(protocol.POLICY, str(error)) from None
        except RefusedError as error:  # the service stops
            raise ProtocolError(protocol.GOING_AWAY, str(error)) from None
        return chosen

    def _ticket_holder(self, ticket: str) -> Chosen:
        try:
            issued, chosen = self._tickets.pop(ticket)
        except KeyError:
            raise InputError("this ticket is not valid; press Start again") from None
        if time.monotonic() - issued > TICKET_SECONDS:
            raise InputError("this ticket is too old; press Start again")
        return chosen

    @contextlib.asynccontextmanager
    async def _place(
        self, socket: WebSocket, hello: Hello, listening: asyncio.Task
    ) -> AsyncIterator[ThreadPoolExecutor]:
        """Hold a place while the block runs; wait for a free one, if the client wants to wait."""
        if not hello.wait and (self._line or not self._free):
            raise ProtocolError(
                protocol.BUSY, f"{self.limits.max_clients} clients are speaking; try later"
            )
        self._line.append(socket)
        told = -STATUS_SECONDS
        try:
            while self._line[0] is not socket or not self._free:
                self._require_running()
                if listening.done():
                    listening.result()  # raises why the client has left
                    raise WebSocketDisconnect
                if time.monotonic() - told >= STATUS_SECONDS:
                    told = time.monotonic()
                    await self._send(socket, {"wait": _ahead(self._line.index(socket))})
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._line.remove(socket)
        thread = self._free.pop()
        self.service.n_streams += 1
        try:
            yield thread
        finally:
            self.service.n_streams -= 1
            self._free.append(thread)

    async def _stream(
        self,
        socket: WebSocket,
        hello: Hello,
        chosen: Chosen,
        inbox: Inbox,
        listening: asyncio.Task,
        thread: ThreadPoolExecutor,
    ) -> None:
        """Convert one client's sound."""
        compute = functools.partial(asyncio.get_running_loop().run_in_executor, thread)
        try:
            stream = await compute(self._open, hello, chosen)
        except InputError as error:
            raise ProtocolError(protocol.POLICY, str(error)) from None
        answer = {
            "rate": stream.sample_rate,
            "format": hello.format,
            "block_seconds": stream.block_seconds,
            "latency_seconds": round(stream.latency_seconds, 4),
            "voice": hello.voice,
        }
        await self._send(socket, answer)
        log.info("a live client speaks at %d Hz, %s", hello.rate, hello.format)
        inbox.open()
        started = heard = time.monotonic()
        end: ProtocolError | None = None
        while end is None and not inbox.is_at_end:
            samples, n_skipped = await inbox.take(STATUS_SECONDS)
            if inbox.is_over:
                await listening  # raises if the client has left, or sent something invalid
            now = time.monotonic()
            if np.abs(samples).max(initial=0) >= HEARD_AMPLITUDE:
                heard = now
            idle = 0.0 if len(samples) else now - inbox.received
            end = self._limit(inbox, now - started, now - heard, idle)
            if n_skipped:
                await self._send(socket, {"skipped": n_skipped})
            # In short pieces, so that the end of a connection is noticed between them.
            for start in range(0, len(samples), stream.block_samples):
                piece = samples[start : start + stream.block_samples]
                await self._send_sound(socket, await compute(stream.push, piece), hello)
        if inbox.is_over:
            await listening
        await self._send_sound(socket, await compute(stream.flush), hello)
        if end is not None:
            raise end

    def _open(self, hello: Hello, chosen: Chosen) -> VoiceStream:
        networks = copy.copy(chosen.converter.networks)  # the same ones, but for:
        networks.threads = ThreadChooser()
        networks.threads.most = 1
        converter = VoiceConverter(networks, chosen.converter.guidance, chosen.converter.checkpoint)

        def opened(pace: Pace) -> VoiceStream:
            return converter.stream(
                chosen.voice,
                pace.block_seconds,
                sample_rate=hello.rate,
                lookahead_seconds=self._lookahead_seconds,
                listens=pace.listens,
                source=chosen.speaker,
                earlier=chosen.earlier,
                seed=chosen.seed,
            )

        pace = self._pace
        if pace is None:
            pace = self._pace = affordable(opened, self._block_seconds, self._listens)
        if hello.block is not None:
            pace = Pace(hello.block, pace.listens and hello.block >= pace.block_seconds)
        return opened(pace)

    def _limit(
        self, inbox: Inbox, seconds: float, silence: float, idle: float
    ) -> ProtocolError | None:
        """Return why a stream must end, or None."""
        limits = self.limits
        if self._is_stopping:
            return ProtocolError(protocol.GOING_AWAY, STOPPING)
        if idle > limits.max_idle_seconds and not inbox.is_over:
            return ProtocolError(
                protocol.POLICY, f"no message came for {limits.max_idle_seconds:g} s"
            )
        if not self._line:
            return None
        if seconds > limits.max_seconds:
            return ProtocolError(
                protocol.BUSY,
                f"a stream lasts at most {limits.max_seconds:g} s while others wait; start again",
            )
        if silence > limits.idle_seconds:
            return ProtocolError(
                protocol.BUSY,
                f"nothing was heard for {limits.idle_seconds:g} s, and others wait; start again",
            )
        return None

    def _require_running(self) -> None:
        if self._is_stopping:
            raise ProtocolError(protocol.GOING_AWAY, STOPPING)

    async def _send_sound(self, socket: WebSocket, samples: np.ndarray, hello: Hello) -> None:
        if len(samples):
            await self._send(socket, protocol.encode(samples, hello.format))

    async def _send(self, socket: WebSocket, message: bytes | dict) -> None:
        """Send a message; give up a client that does not read."""
        try:
            async with asyncio.timeout(self.limits.max_unread_seconds):
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_text(json.dumps(message))
        except TimeoutError:  # a closing message would wait behind the unread ones
            raise WebSocketDisconnect from None
        except RuntimeError as error:  # Starlette's, after the client has left
            log.debug("a live client left: %s", without_message(error))
            raise WebSocketDisconnect from None


def single_threaded() -> ThreadPoolExecutor:
    """Make a thread in which torch computes alone.

    A step has hundreds of small operations. If they were divided among several threads beside a
    busy program, each operation would wait for its slowest thread.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
    n_threads = torch.get_num_threads()
    thread.submit(use_one_thread).result()
    torch.set_num_threads(n_threads)  # the call above also changed it here and for new threads
    return thread


def _ahead(n_clients: int) -> str:
    """Describe the reason for waiting, with n_clients before this one."""
    if n_clients == 0:
        return "You are the next."
    return f"{n_clients} {'person is' if n_clients == 1 else 'people are'} before you."
