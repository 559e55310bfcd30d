"""Memory that a training run takes and frees again in every step."""

import ctypes
import sys

# Of malloc.h (glibc).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
ALL = 2**31 - 1  # bytes


def keep_freed_memory() -> None:
    """Keep freed memory for the next step, where the C library can be told to (Linux, glibc).

    It would return each tensor of more than 32 MB to the system, which clears all of its pages
    when it lends them again.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, ALL)
