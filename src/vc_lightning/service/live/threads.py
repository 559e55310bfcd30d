"""Threads of live streams, in each of which torch computes alone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

import torch

from vc_lightning.common.threads import use_one_thread

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


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


async def computed(
    thread: ThreadPoolExecutor,
    function: Callable[[*Arguments], Result],
    *arguments: *Arguments,
) -> Result:
    """Call a function in a stream's thread, without blocking the server."""
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
