"""How the C library allocates memory for large tensors, where that matters: on the CPU, on Linux."""

import ctypes
import os
import sys

# mallopt's numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE, _ALL = 1 << 30, (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the process reuse the memory of freed tensors; returns whether that was possible.

    glibc returns every freed block above 32 MB to the system and requests it again, and the system zeroes each page on
    first use: a segmenter at 512x1024 spends an eighth of its time on that, and half of it with eight such images. The
    price: the process does not shrink. If glibc's own variables (`MALLOC_...`) are set, nothing is changed.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, _ALL))
