"""Live conversion for the page: one speaker at a time, over a WebSocket.

The page sends `{"ticket": …, "sample_rate": …}` first, then the sound of its microphone as 32-bit
floats in pieces of some milliseconds, and `{"type": "stop"}` at the end. The server answers with
sound of the same kind and with messages: `{"type": "wait" | "open" | "over", "text": …}` with a
sentence for the reader, or `{"skipped": samples}`. Sample n of the answer is the conversion of
sample n of the microphone.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.demo.html import capitalized
from vc_lightning.demo.service import ConversionService, VoiceRequest

MAX_TICKETS = 100  # unused ones; older ones are dropped
TICKET_SECONDS = 120  # validity of a ticket
ANSWER_SECONDS = 10  # time limit for a page to send its first message or to read one
LOOK_SECONDS = 0.1  # between checks for a free converter
STATUS_SECONDS = 1  # between messages to people who wait
MAX_BEHIND_SECONDS = 1.0  # most sound that waits for its conversion; if more waits, most is skipped
KEPT_BEHIND_SECONDS = 0.1  # sound that is kept then: one long gap loses fewer words than many short
BYTES_PER_SAMPLE = 4
HEARD_AMPLITUDE = 0.01  # -40 dBFS: softer sound counts as silence

Result = TypeVar("Result")


@dataclass(frozen=True)
class LiveLimits:
    """Limits of live sessions.

    Attributes:
        max_seconds: Longest session.
        idle_seconds: Silence after which a session ends.
        max_waiting: Maximum number of people who wait; the next one is sent away.
    """

    max_seconds: float
    idle_seconds: float
    max_waiting: int

    def __post_init__(self) -> None:
        """Check the limits."""
        require_within(1, 1e6, "live", max_seconds=self.max_seconds)
        require_within(1, 1e6, "live", idle_seconds=self.idle_seconds)
        require_at_least(0, "live", max_waiting=self.max_waiting)


class LiveDesk:
    """Issues tickets, serves one person at a time, and lets the others wait.

    Args:
        service: Opens the streams.
        limits: Limits of the sessions.
    """

    def __init__(self, service: ConversionService, limits: LiveLimits):
        self.service = service
        self.limits = limits
        self._tickets: OrderedDict[str, tuple[float, VoiceRequest]] = OrderedDict()
        self._line: list[WebSocket] = []  # the speaking person, then the waiting ones
        self._thread = single_threaded()

    def ticket(self, request: VoiceRequest) -> str:
        """Issue a ticket for one session, valid for `TICKET_SECONDS`.

        Args:
            request: The voice.

        Returns:
            The ticket.

        Raises:
            InputError: The voice cannot be used.
        """
        self.service.check_voice(request)
        while len(self._tickets) >= MAX_TICKETS:
            self._tickets.popitem(last=False)
        ticket = secrets.token_urlsafe(16)
        self._tickets[ticket] = (time.monotonic(), request)
        return ticket

    async def speak(self, socket: WebSocket) -> None:
        """Serve one person, from the ticket to the last sample.

        Args:
            socket: The connection to the page.
        """
        await socket.accept()
        try:
            text = await self._served(socket)
            async with asyncio.timeout(ANSWER_SECONDS):
                await socket.send_json({"type": "over", "text": text})
                await socket.close()
        except (WebSocketDisconnect, TimeoutError):
            with contextlib.suppress(RuntimeError):  # it is closed already
                await socket.close()

    async def _served(self, socket: WebSocket) -> str:
        """Wait for the person's turn and convert; return the sentence that ends the session."""
        try:
            request, sample_rate = await self._greeting(socket)
        except InputError as error:
            return capitalized(error)
        if len(self._line) > self.limits.max_waiting:
            return f"{len(self._line)} people are speaking or waiting; try again in a few minutes."
        self._line.append(socket)
        microphone = Microphone(socket, sample_rate)
        listening = asyncio.create_task(microphone.listen())
        has_begun = False
        try:
            has_begun = await self._turn(socket, microphone)
            if not has_begun:
                return "The end."
            return await self._session(socket, microphone, request, sample_rate)
        finally:
            listening.cancel()
            if self._line[0] is socket:
                self.service.end_live(has_begun=has_begun)
            self._line.remove(socket)

    async def _greeting(self, socket: WebSocket) -> tuple[VoiceRequest, int]:
        """Receive the first message; return the ticket's request and the microphone's rate."""
        async with asyncio.timeout(ANSWER_SECONDS):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        try:
            content = json.loads(message.get("text") or "")
            ticket, sample_rate = content["ticket"], int(content["sample_rate"])
            issued, request = self._tickets.pop(ticket)
        except (ValueError, OverflowError, LookupError, TypeError, RecursionError):
            raise InputError("this ticket is not valid; press Start again") from None
        if time.monotonic() - issued > TICKET_SECONDS:
            raise InputError("this ticket is too old; press Start again")
        return request, sample_rate

    async def _turn(self, socket: WebSocket, microphone: "Microphone") -> bool:
        """Wait until nothing else is converted; return False if the person leaves before."""
        told = -1.0
        while not microphone.is_over:
            ahead = self._line.index(socket)
            if ahead == 0 and self.service.begin_live():
                return True
            if time.monotonic() - told >= STATUS_SECONDS:
                told = time.monotonic()
                await _send_text(socket, "wait", f"Waiting: {_ahead(ahead)}.")
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _session(
        self, socket: WebSocket, microphone: "Microphone", request: VoiceRequest, sample_rate: int
    ) -> str:
        """Convert one person's sound; return the sentence that ends the session."""
        await _send_text(socket, "wait", "Preparing the voice.")
        try:
            stream = await self._computed(self.service.open_stream, request, sample_rate)
        except InputError as error:
            return capitalized(error)
        limit = self.limits.max_seconds
        await _send_text(socket, "open", f"Speak now, for at most {limit:g} s.")
        microphone.open()
        started = heard = time.monotonic()
        text = "The end."
        is_last = False
        while not is_last and microphone.is_connected:
            is_last = microphone.is_over
            now = time.monotonic()
            if now - started > limit:
                text = f"The end: one session lasts at most {limit:g} s. Press Start for another."
                break
            if now - heard > self.limits.idle_seconds:
                text = f"The end: nothing was heard for {self.limits.idle_seconds:g} s."
                break
            samples, n_skipped = await microphone.samples()
            if np.abs(samples).max(initial=0) >= HEARD_AMPLITUDE:
                heard = now
            if n_skipped:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await socket.send_json({"skipped": n_skipped})
            if len(samples):
                await _send_sound(socket, await self._computed(stream.push, samples))
        if microphone.is_connected:
            await _send_sound(socket, await self._computed(stream.flush))
        return microphone.error or text

    async def _computed(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in the thread for live speech, without blocking the server."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def single_threaded() -> ThreadPoolExecutor:
    """Make a thread in which torch computes alone.

    A step has hundreds of small operations. If they were divided among several threads beside a
    busy program, each operation would wait for its slowest thread.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
    n_threads = torch.get_num_threads()
    thread.submit(_use_one_thread).result()
    torch.set_num_threads(n_threads)  # the call above also changed it here and for new threads
    return thread


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first call in a thread applies the number there


class Microphone:
    """Holds the sound of one page until it is converted.

    Args:
        socket: The connection to the page.
        sample_rate: In Hz.

    Attributes:
        is_over: Whether nothing more will come.
        is_connected: Whether the page is still there.
        error: Sentence for a page that sends something invalid, or "".
    """

    def __init__(self, socket: WebSocket, sample_rate: int):
        self.is_over = False
        self.is_connected = True
        self.error = ""
        self._socket = socket
        self._is_open = False
        self._max_samples = int(MAX_BEHIND_SECONDS * sample_rate)
        self._kept_samples = int(KEPT_BEHIND_SECONDS * sample_rate)
        self._pieces: list[np.ndarray] = []
        self._n_skipped = 0
        self._has_changed = asyncio.Event()

    def open(self) -> None:
        """Start to hold sound; earlier sound is dropped."""
        self._is_open = True

    async def listen(self) -> None:
        """Take messages until the page stops or leaves."""
        try:
            while not self.is_over:
                self._take(await self._socket.receive())
                self._has_changed.set()
        finally:
            self.is_over = True
            self._has_changed.set()

    def _take(self, message: Message) -> None:
        """Take one message."""
        sound = message.get("bytes")
        if message["type"] == "websocket.disconnect":
            self.is_over, self.is_connected = True, False
        elif sound is None:
            self.is_over = True  # the only other message is "stop"
        elif len(sound) % BYTES_PER_SAMPLE or len(sound) > BYTES_PER_SAMPLE * self._max_samples:
            self.is_over = True
            self.error = f"A message holds at most {MAX_BEHIND_SECONDS:g} s of 32-bit floats."
        elif self._is_open:
            self._pieces.append(np.frombuffer(sound, np.dtype("<f4")))
            self._forget_oldest()

    async def samples(self) -> tuple[np.ndarray, int]:
        """Wait for sound, at most a second.

        Returns:
            Samples (n,), and the number that were skipped before them.
        """
        if not self.is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECONDS):
                    await self._has_changed.wait()
        self._has_changed.clear()
        pieces, self._pieces = self._pieces, []
        n_skipped, self._n_skipped = self._n_skipped, 0
        return np.concatenate([np.zeros(0, np.float32), *pieces]), n_skipped

    def _forget_oldest(self) -> None:
        """Skip the oldest sound if too much waits, so that the delay stays small."""
        waiting = sum(map(len, self._pieces))
        if waiting <= self._max_samples:
            return
        while waiting > self._kept_samples:
            n = len(self._pieces.pop(0))
            waiting -= n
            self._n_skipped += n


async def _send_sound(socket: WebSocket, samples: np.ndarray) -> None:
    if len(samples):
        async with asyncio.timeout(ANSWER_SECONDS):
            await socket.send_bytes(samples.astype("<f4").tobytes())


async def _send_text(socket: WebSocket, kind: str, text: str) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await socket.send_json({"type": kind, "text": text})


def _ahead(n_people: int) -> str:
    """Describe the reason for waiting, with n_people before this one."""
    if n_people == 0:
        return "a conversion is being finished"
    return f"{n_people} {'person is' if n_people == 1 else 'people are'} before you"
