"""The sound of one live client that waits for its conversion."""

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from vc_lightning.service.live import protocol
from vc_lightning.service.live.protocol import Hello

MAX_BEHIND_SECONDS = 1.0  # most sound that waits for its conversion; if more waits, most is skipped
KEPT_BEHIND_SECONDS = 0.1  # sound that is kept then: one long gap loses fewer words than many short


class Inbox:
    """The sound of one client that waits for its conversion.

    Attributes:
        is_over: Whether nothing more will come.
        received: Time of the last message.
    """

    def __init__(self, socket: WebSocket, hello: Hello):
        self.is_over = False
        self.received = time.monotonic()
        self._socket = socket
        self._hello = hello
        self._is_open = not hello.skip
        self._max_samples = int(MAX_BEHIND_SECONDS * hello.rate)
        self._kept_samples = int(KEPT_BEHIND_SECONDS * hello.rate)
        self._pieces: list[np.ndarray] = []
        self._n_skipped = 0
        self._has_changed = asyncio.Event()
        self._has_room = asyncio.Event()

    @property
    def is_at_end(self) -> bool:
        """Whether everything was taken."""
        return self.is_over and not self._pieces and not self._n_skipped

    def open(self) -> None:
        """Start to hold sound; where late sound is skipped, earlier sound was dropped."""
        self._is_open = True
        self.received = time.monotonic()

    async def listen(self) -> None:
        """Take messages until the client ends its sound.

        Raises:
            ProtocolError: A message is not valid.
            WebSocketDisconnect: The client has left.
        """
        try:
            while True:
                content = content_of(await self._socket.receive())
                self.received = time.monotonic()
                if isinstance(content, str):
                    protocol.require_end(content)
                    return
                samples = protocol.decode(content, self._hello.format)
                if self._is_open and len(samples):
                    self._pieces.append(samples)
                    self._has_changed.set()
                    await self._bound()
        finally:
            self.is_over = True
            self._has_changed.set()

    async def take(self, seconds: float) -> tuple[np.ndarray, int]:
        """Take what has come; wait if there is nothing.

        Args:
            seconds: Longest wait.

        Returns:
            Samples (n,), and the number that were skipped before them.
        """
        if not self.is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_changed.wait()
        self._has_changed.clear()
        pieces, self._pieces = self._pieces, []
        n_skipped, self._n_skipped = self._n_skipped, 0
        self._has_room.set()
        return np.concatenate([np.zeros(0, np.float32), *pieces]), n_skipped

    async def _bound(self) -> None:
        """Skip the oldest sound if too much waits, or read on only when it was taken."""
        waiting = sum(map(len, self._pieces))
        if not self._hello.skip:
            self._has_room.clear()
            await self._has_room.wait()
        elif waiting > self._max_samples:
            while waiting > self._kept_samples:
                n = len(self._pieces.pop(0))
                waiting -= n
                self._n_skipped += n


def content_of(message: MutableMapping[str, Any]) -> str | bytes:
    """Return what a message holds.

    Raises:
        WebSocketDisconnect: The client has left.
    """
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1006)
    text = message.get("text")
    return message["bytes"] if text is None else text
