"""Limits of live streams."""

from dataclasses import dataclass

from vc_lightning.common.errors import require_at_least, require_within


@dataclass(frozen=True)
class LiveLimits:
    """Limits of live streams.

    Attributes:
        max_clients: Most streams at a time.
        max_waiting: Most clients that wait for a place; the next one is sent away.
        max_seconds: Longest stream while others wait.
        idle_seconds: Silence after which a stream ends while others wait.
        max_idle_seconds: Longest time between two messages of a client.
        max_unread_seconds: Longest time for which a client may leave its messages unread.
        max_message_kib: Largest message, in KiB.
    """

    max_clients: int
    max_waiting: int
    max_seconds: float
    idle_seconds: float
    max_idle_seconds: float
    max_unread_seconds: float
    max_message_kib: int

    def __post_init__(self) -> None:
        """Check the limits."""
        require_at_least(1, "live", max_clients=self.max_clients)
        require_at_least(0, "live", max_waiting=self.max_waiting)
        require_at_least(1, "live", max_message_kib=self.max_message_kib)
        for name in ("max_seconds", "idle_seconds", "max_idle_seconds", "max_unread_seconds"):
            require_within(0.1, 1e6, "live", **{name: getattr(self, name)})
