"""What Gradio remembers of every open page; without this module, it also remembers closed ones."""

from asyncio import Queue

import gradio as gr
from gradio.utils import LRUCache

MAX_SESSIONS = 500  # remembered pages; each takes about 0.1 MB
MAX_NAME = 64  # characters of a session's name; Gradio's have 11


class Messages(LRUCache[str, Queue]):
    """Messages to open pages; those to a closed page are dropped."""

    def __missing__(self, session: str) -> Queue:
        """Make a queue that nobody reads, for the session of a closed page."""
        return Queue()


def bound(blocks: gr.Blocks) -> None:
    """Limit how many sessions a page remembers, before it is mounted; clients choose the names."""
    blocks.state_session_capacity = MAX_SESSIONS
    blocks._queue.pending_messages_per_session = Messages(MAX_SESSIONS)


def forget(blocks: gr.Blocks, session: str | None) -> None:
    """Drop all that a page remembers of a session; None where Gradio has none to remember."""
    if session is None:
        return
    blocks.state_holder.session_data.pop(session, None)
    blocks.state_holder.time_last_used.pop(session, None)
    blocks._queue.pending_messages_per_session.pop(session, None)
    blocks._queue.pending_event_ids_session.pop(session, None)
