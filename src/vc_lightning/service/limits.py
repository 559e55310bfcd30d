"""Limits of requests and of live streams."""

from dataclasses import dataclass

from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import require_at_least, require_within


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of one request and of all requests together.

    Attributes:
        max_seconds: Longest recording, in seconds.
        max_megabytes: Largest size of all recordings of one request together, in MB (10^6 bytes).
        max_targets: Most recordings of a target voice.
        max_requests: Most requests that upload, wait or are converted at the same time.
        batch_size: Most conversions in a batch.
        batch_seconds: Largest product of a batch's size and its longest source, in seconds;
            a batch of one is not limited.
        transfer_seconds: Longest time of an upload, and of the download of a result.
        wait_seconds: Longest time from a request's analysis to the end of its conversion.

    Raises:
        InputError: A limit is out of range.
    """

    max_seconds: float
    max_megabytes: float
    max_targets: int
    max_requests: int
    batch_size: int
    batch_seconds: float
    transfer_seconds: float
    wait_seconds: float

    def __post_init__(self) -> None:
        """Check the limits."""
        require_within(voice_activity.MIN_SECONDS, 1e6, "", max_seconds=self.max_seconds)
        require_within(0.01, 1e6, "", max_megabytes=self.max_megabytes)
        for name in ("max_targets", "max_requests", "batch_size"):
            require_at_least(1, "", **{name: getattr(self, name)})
        for name in ("batch_seconds", "transfer_seconds", "wait_seconds"):
            require_within(0.1, 1e6, "", **{name: getattr(self, name)})


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

    Raises:
        InputError: A limit is out of range.
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
