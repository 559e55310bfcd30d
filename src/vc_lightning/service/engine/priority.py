"""Recordings can wait, live speech cannot: the priority of the threads that work on recordings."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

NICENESS = 10  # of a thread that gives way


def in_new_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a thread of its own, and wait for its result.

    A thread may lower its priority, but not raise it again.

    Args:
        function: The function.
        arguments: Its arguments.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def give_way() -> None:
    """Lower the priority of the calling thread on Linux, where every thread has its own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
