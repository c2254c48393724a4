"""How the C library hands out memory for large tensors, where that matters: on the CPU, under Linux."""

import ctypes
import os
import sys

# mallopt's numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE, _ALL = 1 << 30, (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the process use the memory of freed tensors again, and whether that was possible.

    glibc gives every block above 32 MB back to the system when it is freed and asks for it anew, and the system fills
    each of its pages with zeros at the first touch: a segmenter at 512x1024 spends an eighth of its time on that, eight
    such images half of it. The price: the process stays as large as it once was. Whoever sets glibc's own variables
    (`MALLOC_...`) is left alone.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, _ALL))
