"""The photographs and videos that a command takes: files, folders and globs, read one image at a time."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.images.decode import decode_image
from ...datasets.images.files import IMAGE_ENDINGS, find_files, is_hidden
from ..system.console import log, printable
from .videos import (
    VIDEO_ENDINGS,
    begins_like_a_video,
    count_frames,
    frame_rate,
    is_ambiguous,
    is_video,
    quietly,
    read_frames,
)  # fmt: skip

__all__ = ["Shot", "count_shots", "find_images", "is_video", "quietly", "read_shots"]


@dataclass(frozen=True)
class Shot:
    """One input image for a model: a photograph, or a frame of a video."""

    path: Path
    image: np.ndarray  # uint8 [H, W, 3] RGB
    frame: int | None = None  # index in the video, from 0
    rate: float | None = None  # frames per second of the video, divided by `every`
    time: float | None = None  # seconds after the video's first frame


def find_images(inputs: Iterable[str], *, videos: bool = False, outside: Path | None = None) -> list[Path]:
    """The named files, and the images in folders and globs (also `**`); each file once. Logs what is left out.

    Args:
        videos: also search for videos.
        outside: a folder to skip, such as the one with earlier results.

    Raises:
        ValueError: there are no inputs.
        FileNotFoundError: an input does not exist, or a folder or glob contains no image.
    """
    inputs = list(inputs)
    if not inputs:
        raise ValueError("give photographs or folders, e.g. pocketvision predict run=runs/first photo.jpg")
    endings = IMAGE_ENDINGS | (VIDEO_ENDINGS if videos else frozenset())
    files: dict[Path, Path] = {}
    for name in inputs:
        for path in _search(name, endings, outside):
            files.setdefault(_real(path), path)
    return list(files.values())


def _search(name: str, endings: frozenset[str], outside: Path | None) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        found, what = _below(path, endings), f"images in {path}"
    elif glob.has_magic(name):
        hits = [Path(hit) for hit in glob.glob(name, recursive=True)]
        found, what = [], f"image matches {name}"
        for hit in hits:
            if hit.is_dir():
                found += _below(hit, endings)
            elif hit.suffix.lower() in endings and not (is_hidden(hit.parent.name) and hit.parent.name not in name):
                found.append(hit)
    else:
        raise FileNotFoundError(f"no such file or folder: {path}")
    left_out = _real(outside) if outside and _real(outside) != _real(path) else None
    kept = sorted(p for p in found if not (left_out and _real(p).is_relative_to(left_out)))
    if not kept:
        raise FileNotFoundError(f"no {what} (looked for {' '.join(sorted(endings))})")
    return kept


def _real(path: Path) -> Path:
    """Without links. `Path.resolve` raises an error for a link to itself, which is named when it is read."""
    return Path(os.path.realpath(path))


def _below(folder: Path, endings: frozenset[str]) -> list[Path]:
    found = find_files(folder, endings)
    if found.note:
        log.info(printable(found.note))
    paths = [folder / name for name in found.names]
    return [path for path in paths if not is_ambiguous(path) or begins_like_a_video(path)]


def count_shots(path: Path, *, every: int = 1) -> int:
    """The number of images in a file; for a video, an estimate from its header, or 1 if it has none."""
    return max(1, -(-count_frames(path) // every)) if is_video(path) else 1


def read_shots(path: Path, *, every: int = 1) -> Iterator[Shot]:
    """The image in a file, or every `every`-th frame of a video, one in memory at a time.

    Raises:
        OSError: it cannot be read.
        ValueError: it cannot be decoded; a video has no frames, or (raised after the last one) fewer than it declares.
    """
    if not is_video(path):
        yield Shot(path, decode_image(path))
        return
    rate = frame_rate(path) / every
    for image, number, time in read_frames(path, every=every):
        yield Shot(path, image, number, rate, time)
