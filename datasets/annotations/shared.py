"""Arrays that loader processes share with their parent, regardless of the start method.

A forked process shares what its parent had; a spawned one, or a forkserver's (Python's default from 3.14 on), gets a
copy of everything. These arrays lie in anonymous memory, of which a new process gets a descriptor: nothing is left
behind, however processes end, and /dev/shm, which is tiny in containers, is not needed.
"""

import contextlib
import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np

_ALIGNMENT = 64  # bytes; alignment of each array
_Layout = list[tuple[str, str, tuple[int, ...], int]]  # per array: name, dtype, shape, first byte


class SharedArrays(dict[str, np.ndarray]):
    """Named read-only arrays, copied into shared memory; not shared on Windows."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        layout: _Layout = []
        size = 0
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise TypeError(f"{name} is an array of {array.dtype}: only numbers and strings can be shared")
            layout.append((name, array.dtype.str, array.shape, size))
            size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._attach(_memory(max(1, size)), max(1, size), layout)
        for name, array in arrays.items():
            own = self[name]
            own.flags.writeable = True
            own[...] = array
            own.flags.writeable = False

    def _attach(self, descriptor: int | None, size: int, layout: _Layout) -> None:
        self._descriptor, self._size, self._layout = descriptor, size, layout
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)
        memory: Any = bytearray(size) if descriptor is None else mmap.mmap(descriptor, size)
        for name, dtype, shape, start in layout:
            count = int(np.prod(shape))
            array = np.frombuffer(memory, dtype, count, start) if count else np.empty(0, dtype)
            self[name] = array.reshape(shape)
            self[name].flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """A handle for a process that is being started; a copy everywhere else."""
        if self._descriptor is None or get_spawning_popen() is None:
            return SharedArrays, ({name: np.array(array) for name, array in self.items()},)
        return _attached, (reduction.DupFd(self._descriptor), self._size, self._layout)


def _attached(handle: Any, size: int, layout: _Layout) -> SharedArrays:
    arrays = SharedArrays.__new__(SharedArrays)
    arrays._attach(handle.detach(), size, layout)
    return arrays


def _memory(size: int) -> int | None:
    """A descriptor of zero-filled memory of this size; None where it cannot be shared (Windows)."""
    if os.name != "posix":
        return None
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # forbidden in some sandboxes
            descriptor = os.memfd_create("pocketvision")
            os.ftruncate(descriptor, size)
            return descriptor
    with tempfile.TemporaryFile() as file:  # it no longer has a name
        os.ftruncate(file.fileno(), size)
        return os.dup(file.fileno())


def give_back_freed_memory() -> None:
    """Return memory freed after reading annotations to the system (glibc): 80 MB after all of COCO's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Names(Sequence[str]):
    """Strings as one shared block of bytes; as Python objects they take five times the memory, in each process."""

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._shared = SharedArrays({"bytes": np.frombuffer(b"".join(encoded), np.uint8), "ends": ends})

    def __len__(self) -> int:
        return len(self._shared["ends"]) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, end = self._shared["ends"][index : index + 2].tolist()
        return self._shared["bytes"][start:end].tobytes().decode("utf-8", "surrogatepass")

    def tolist(self) -> list[str]:
        return list(self)
