"""The photographs and videos that a command takes: files, folders and globs, read one image at a time."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.images.decode import decode_image
from ...datasets.images.files import IMAGE_ENDINGS

VIDEO_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
_RATE = 25.0  # frames per second, for videos that do not state theirs


@dataclass(frozen=True)
class Shot:
    """One input image for a model: a photograph, or a frame of a video."""

    path: Path
    image: np.ndarray  # uint8 [H, W, 3] RGB
    frame: int | None = None  # index in the video, from 0
    rate: float | None = None  # frames per second of the video, divided by `every`


def find_images(inputs: Iterable[str], *, videos: bool = False, outside: Path | None = None) -> list[Path]:
    """The named files, and the images in folders and globs (also `**`); each file once.

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
            files.setdefault(path.resolve(), path)
    return list(files.values())


def _search(name: str, endings: frozenset[str], outside: Path | None) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        found, what = path.rglob("*"), f"images in {path}"
    elif glob.has_magic(name):
        hits = [Path(hit) for hit in glob.glob(name, recursive=True)]
        found, what = (p for hit in hits for p in (hit.rglob("*") if hit.is_dir() else [hit])), f"image matches {name}"
    else:
        raise FileNotFoundError(f"no such file or folder: {path}")
    left_out = outside.resolve() if outside and outside.resolve() != path.resolve() else None
    kept = sorted(
        p
        for p in found
        if p.suffix.lower() in endings and p.is_file() and not (left_out and p.resolve().is_relative_to(left_out))
    )
    if not kept:
        raise FileNotFoundError(f"no {what} (looked for {' '.join(sorted(endings))})")
    return kept


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_ENDINGS


def count_shots(path: Path, *, every: int = 1) -> int:
    """The number of images in a file; for a video, the frame count in its header, or 1 if it has none."""
    if not is_video(path):
        return 1
    capture = quietly(cv2.VideoCapture, str(path))
    promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return max(1, -(-promised // every))


def read_shots(path: Path, *, every: int = 1) -> Iterator[Shot]:
    """The image in a file, or every `every`-th frame of a video, one in memory at a time.

    Raises:
        OSError: it cannot be read.
        ValueError: it cannot be decoded; a video has no frames, or (raised after the last one) fewer than it declares.
    """
    if not is_video(path):
        yield Shot(path, decode_image(path))
        return
    capture = _open(path)
    try:
        rate, promised = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = (rate if 0 < rate < 1000 else _RATE) / every
        number = 0
        while capture.grab():
            if number % every == 0:
                ok, frame = capture.retrieve()
                if not ok:
                    break
                yield Shot(path, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), number, rate)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise ValueError(f"{path} contains no readable frame")
    if number < 0.98 * promised - 2:  # header counts are estimates
        raise ValueError(
            f"{path} ends early: {number} of {promised} frames could be read; the file is corrupt or truncated"
        )


def _open(path: Path) -> cv2.VideoCapture:
    with open(path, "rb") as file:  # OpenCV does not report missing or unreadable files
        if not file.read(1):
            raise ValueError(f"{path} is empty: expected a video")
    capture = quietly(cv2.VideoCapture, str(path))
    if not capture.isOpened():
        raise ValueError(f"{path} cannot be opened as a video: corrupt, truncated, or not supported by OpenCV")
    return capture


def quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call OpenCV without the lines that it and FFmpeg print about files and codecs; we report what matters."""
    level = cv2.utils.logging.getLogLevel()  # pyright: ignore[reportAttributeAccessIssue]
    cv2.utils.logging.setLogLevel(0)  # pyright: ignore[reportAttributeAccessIssue]
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, when FFmpeg starts
    try:
        return function(*arguments)
    finally:
        cv2.utils.logging.setLogLevel(level)  # pyright: ignore[reportAttributeAccessIssue]
