"""Decoded pictures cached in files, shared by a machine's loader processes and ranks through the page cache."""

import hashlib
import json
import logging
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...files import whole_file
from .decoder import Decoder, PictureFile, is_jpeg
from .files import image_size
from .label_colors import ColorTable

_HEADER = 12  # bytes: height, width, channels
_SAMPLES = 500  # number of files to read sizes from where the annotations have none
_OF_REDUCED = 4 / 3  # 1 + 1/4 + 1/16 + 1/64: a JPEG may be cached at every reduction
_log = logging.getLogger(__name__)


class CachedDecoder(Decoder):
    """Decodes a file once; then its pixels come from `folder` as long as its size and time do not change.

    Files appear complete or not at all, so any number of processes may write at once. If one cannot be written (a full
    disk), the picture is decoded every time, and the log says so.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._told = Path(folder), False

    def image(self, path: str | Path, *, reduction: int = 1) -> np.ndarray:
        reduction = reduction if is_jpeg(path) else 1
        return self._kept(
            path, f"image {reduction}", lambda: super(CachedDecoder, self).image(path, reduction=reduction)
        )

    def mask(self, path: str | Path, colors: ColorTable | None = None) -> np.ndarray:
        return self._kept(path, _mask_kind(colors), lambda: super(CachedDecoder, self).mask(path, colors))

    def holds(self, file: PictureFile) -> bool:
        """Whether the file is cached completely and in its present state."""
        kept = self._file(file.path, _mask_kind(file.colors) if file.mask else "image 1")
        return kept is not None and kept.exists()

    def _kept(self, path: str | Path, kind: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        file = self._file(path, kind)
        if file is None:
            return decode()  # raises the error
        if (found := _load(file)) is not None:
            return found
        pixels = decode()
        try:
            _save(file, pixels)
        except OSError as error:
            if not self._told:
                _log.warning("%s: not cached (%s); such pictures are decoded every time", path, error)
            self._told = True
        return pixels

    def _file(self, path: str | Path, kind: str) -> Path | None:
        try:
            about = os.stat(path)
        except OSError:
            return None
        key = f"{kind}\0{os.path.abspath(path)}\0{about.st_size}\0{about.st_mtime_ns}"
        return self.folder / hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _mask_kind(colors: ColorTable | None) -> str:
    """Different class colors give different class indices for the same file."""
    return "indices" if colors is None else f"indices {json.dumps(colors.content())}"  # "mask" of 1 bit held 0 and 255


def _load(file: Path) -> np.ndarray | None:
    """The pixels, [H, W] or [H, W, C]; None if missing or incomplete. Changing them changes no file."""
    try:
        with open(file, "rb") as opened:
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return None
    shape = tuple(np.frombuffer(data, np.uint32, 3).tolist()) if len(data) >= _HEADER else ()
    if not shape or len(data) != _HEADER + shape[0] * shape[1] * max(shape[2], 1):
        return None
    return np.frombuffer(data, np.uint8, offset=_HEADER).reshape(shape if shape[2] else shape[:2])


def _save(file: Path, pixels: np.ndarray) -> None:
    header = np.array([*pixels.shape, 0][:3], np.uint32)
    with whole_file(file) as unfinished, unfinished.open("wb") as opened:
        opened.write(header.tobytes())
        opened.write(np.ascontiguousarray(pixels).data)


# ---- how much memory it takes ----------------------------------------------------------------------------


def estimate(sources: Iterable[Any], decoder: CachedDecoder, *, reduced: bool) -> tuple[int, int]:
    """(number of files, their decoded bytes) of all that `sources` read and `decoder` has not cached.

    Raises:
        ValueError: a source has no files.
    """
    files: list[PictureFile] = []
    for source in sources:
        if not hasattr(source, "files"):
            raise ValueError(
                f"{type(source).__name__} reads no picture files, so there is nothing to cache: drop cache"
            )
        files += [file for index in range(len(source)) for file in source.files(index)]
    files = [file for file in dict.fromkeys(files) if not decoder.holds(file)]
    images = _pixels([file for file in files if not file.mask]) * 3 * (_OF_REDUCED if reduced else 1)
    return len(files), round(images + _pixels([file for file in files if file.mask]))


def _pixels(files: Sequence[PictureFile]) -> float:
    """The bytes of all files; if their sizes have to be read, scaled up from a part of them."""
    known = [file.size for file in files if file.size]
    unknown = [file.path for file in files if not file.size]
    asked = [unknown[i * len(unknown) // _SAMPLES] for i in range(_SAMPLES)] if len(unknown) > _SAMPLES else unknown
    total = sum(height * width for height, width in known)
    return total + sum(map(_area, asked)) * len(unknown) / max(len(asked), 1)


def _area(path: Path) -> int:
    try:
        height, width = image_size(path)
    except (OSError, ValueError):
        return 0  # reading it raises the error
    return height * width
