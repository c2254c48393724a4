"""Reads `.npz` files of unknown origin: without pickles, and in bounded memory."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np


def read_npz(path: Path, *, max_bytes: int, max_ratio: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays, like `numpy.load`, but an array's size is checked against its entry before it is allocated.

    Args:
        max_bytes: of all arrays, unpacked.
        max_ratio: of the unpacked bytes to the file's; a file of 64 MB or less unpacked may have any.

    Raises:
        ValueError: it is too large, contains pickles, or is damaged. Damage has many other exceptions, too: those of
            zipfile, zlib, tokenize and numpy.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if max_ratio is not None:
            max_bytes = min(max_bytes, max(1 << 26, max_ratio * path.stat().st_size))
        if total > max_bytes:
            raise ValueError(f"it would unpack to {total:,} bytes: expected at most {max_bytes:,}")
        names: set[str] = set()
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename or name in names:
                raise ValueError(f"the entry {entry.filename!r} is not an array, or occurs twice")
            names.add(name)
            with archive.open(entry) as file:
                yield name, _read_npy(file, entry.file_size, name)  # pyright: ignore[reportArgumentType]


def _read_npy(file: BinaryIO, size: int, name: str) -> np.ndarray:
    """The array of an entry of `size` bytes."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} has the unsupported .npy version {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name} contains Python objects (a pickle), which are never loaded")
    content = file.read(size)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{name}: the shape {shape} of {dtype} does not fit its {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
