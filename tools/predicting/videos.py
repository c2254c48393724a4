"""Videos as frames with their times: which files are videos, whether one is whole, and how fast it runs."""

import math
import os
import statistics
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...datasets.images.files import IMAGE_ENDINGS

VIDEO_ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".3gp", ".3g2",
    ".m2v", ".vob", ".flv", ".f4v", ".ogv", ".asf", ".divx", ".mxf", ".qt", ".m1v", ".mjpeg", ".mjpg", ".h264", ".dv",
})  # fmt: skip
# TypeScript has some of these, too: in a folder, only what begins like a video is one.
_SHARED_ENDINGS = (".ts", ".mts")
_SIGNATURES = (
    (0, b"\x1a\x45\xdf\xa3"), (0, b"\0\0\1\xba"), (0, b"\0\0\1\xb3"), (0, b"FLV\1"), (8, b"AVI "), (0, b"OggS"),
    (0, b"\x06\x0e\x2b\x34"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), (4, b"ftypisom"), (4, b"ftypmp4"), (4, b"ftypiso"), (4, b"ftypqt"),
    (4, b"ftyp3g"), (4, b"ftypM4V"), (4, b"ftypavc1"), (4, b"ftypMSNV"), (4, b"ftypdash"), (4, b"moov"),
)  # fmt: skip
_PACKETS = ((0, 188), (4, 192), (0, 204))  # of a transport stream: the first byte 0x47, and the distance to the next
_STREAMS = (b"\0\0\1\xba", b"\0\0\1\xb3")  # without a header for the whole file: its length is a guess
_RATE, _MAX_RATE = 25.0, 240.0  # frames per second, for videos that do not state theirs
_SEEN = 64  # frames from which the rate is taken
_MAX_HEADER = 64 << 20  # bytes of an MP4's index that are read


class Frame(NamedTuple):
    """A frame of a video."""

    image: np.ndarray  # uint8 [H, W, 3] RGB
    number: int  # from 0
    time: float  # seconds after the first frame


def is_video(path: Path) -> bool:
    """By its extension; a file with an unknown one by its first bytes."""
    ending = path.suffix.lower()
    if ending in VIDEO_ENDINGS:
        return True
    return ending not in IMAGE_ENDINGS and begins_like_a_video(path)


def begins_like_a_video(path: Path) -> bool:
    """By the signatures of the usual containers."""
    try:
        head = _head(path, 3 * 204)
    except OSError:
        return False
    if any(head[at : at + len(text)] == text for at, text in _SIGNATURES):
        return True
    return _is_transport_stream(head)


def is_ambiguous(path: Path) -> bool:
    """Whether files of other kinds have this extension, too."""
    return path.suffix.lower() in _SHARED_ENDINGS


def count_frames(path: Path) -> int:
    """The number of frames by the header, an estimate; 0 without one."""
    capture = quietly(cv2.VideoCapture, str(path))
    try:
        if not capture.isOpened():
            return 0
        return max(0, round(_promised(capture, path)[0] or _number(capture, cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def frame_rate(path: Path) -> float:
    """Frames per second: what the header says, unless the first frames follow each other at another rate.

    A header's rate is the mean of a recording with pauses, and may be the unit of its time stamps.
    """
    capture = _open(path)
    try:
        times = [_time(capture) for _ in range(_SEEN) if capture.grab()]
        stated = _number(capture, cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    steps = [after - before for before, after in pairwise(times) if after > before]
    step = statistics.median(steps) if steps else 0.0
    known = 0 < stated < 1000
    if step <= 0 or (known and abs(stated * step - 1) < 0.1):
        return stated if known else _RATE
    return min(1 / step, _MAX_RATE)


def read_frames(path: Path, *, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame, one in memory at a time.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no frames, or (raised after the last one) ends before the end that its header states.
    """
    capture = _open(path)
    number, start, time = 0, 0.0, 0.0
    try:
        promised, seconds = _promised(capture, path)
        while capture.grab():
            now = _time(capture)
            start = now if number == 0 else start
            time = max(time, now - start)
            if number % every == 0:
                ok, frame = capture.retrieve()
                if not ok:
                    break
                yield Frame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), number, now - start)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise ValueError(f"{path} contains no readable frame")
    # Frames may be fewer than promised, for instance at a changing rate: then the last one is as late as promised.
    if number < 0.98 * promised - 2 and time < (0.98 - 2 / promised) * seconds:
        raise ValueError(
            f"{path} ends early: {number} of {promised:.0f} frames could be read; the file is corrupt or truncated"
        )


def quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call OpenCV without the lines that it and FFmpeg print about files and codecs; we report what matters."""
    level = cv2.utils.logging.getLogLevel()  # pyright: ignore[reportAttributeAccessIssue]
    cv2.utils.logging.setLogLevel(0)  # pyright: ignore[reportAttributeAccessIssue]
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, when FFmpeg starts
    try:
        return function(*arguments)
    finally:
        cv2.utils.logging.setLogLevel(level)  # pyright: ignore[reportAttributeAccessIssue]


def _open(path: Path) -> cv2.VideoCapture:
    if not _head(path, 1):  # OpenCV does not report missing or unreadable files
        raise ValueError(f"{path} is empty: expected a video")
    capture = quietly(cv2.VideoCapture, str(path))
    if not capture.isOpened():
        raise ValueError(f"{path} cannot be opened as a video: corrupt, truncated, or not supported by OpenCV")
    return capture


def _promised(capture: cv2.VideoCapture, path: Path) -> tuple[float, float]:
    """The frames and the seconds that the header promises; 0 and 0 if it does not, or only guesses.

    An MP4 counts all frames that it holds. A trimmed one shows only those in its edit list.
    """
    head = _head(path, 3 * 204)
    frames, rate = _number(capture, cv2.CAP_PROP_FRAME_COUNT), _number(capture, cv2.CAP_PROP_FPS)
    if frames <= 0 or rate <= 0 or head.startswith(_STREAMS) or _is_transport_stream(head):
        return 0.0, 0.0
    shown = _shown_seconds(path) if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") else None
    if shown is not None and shown < frames / rate:
        return shown * rate, shown
    return frames, frames / rate


def _number(capture: cv2.VideoCapture, which: int) -> float:
    value = float(capture.get(which))
    return value if math.isfinite(value) else 0.0


def _time(capture: cv2.VideoCapture) -> float:
    return _number(capture, cv2.CAP_PROP_POS_MSEC) / 1000


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def _is_transport_stream(head: bytes) -> bool:
    return any(head[at::step][:3] == b"GGG" for at, step in _PACKETS)


# ---- an MP4's edit list --------------------------------------------------------------------------------


def _shown_seconds(path: Path) -> float | None:
    """How long an MP4's first video track is shown, by its edit list; None without one."""
    try:
        moov = _moov(path)
        timescale = _timescale(_child(moov, b"mvhd"))
        for kind, track in _boxes(moov):
            if kind == b"trak" and _child(_child(track, b"mdia"), b"hdlr")[8:12] == b"vide":
                seconds = _edited(_child(_child(track, b"edts"), b"elst")) / timescale
                return seconds if seconds > 0 else None  # 0: to the end, whatever that is
    except (struct.error, ZeroDivisionError, OSError, KeyError):
        pass
    return None


def _moov(path: Path) -> bytes:
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        position = 0
        while position + 8 <= end:
            file.seek(position)
            size, kind = struct.unpack(">I4s", file.read(8))
            header = 8
            if size == 1:
                size, header = struct.unpack(">Q", file.read(8))[0], 16
            if kind == b"moov" and header <= size <= _MAX_HEADER:
                return file.read(size - header)
            if size < header:
                break
            position += size
    raise KeyError("moov")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if size < 8:
            return
        yield kind, data[position + 8 : position + size]
        position += size


def _child(data: bytes, kind: bytes) -> bytes:
    for name, content in _boxes(data):
        if name == kind:
            return content
    raise KeyError(kind)


def _timescale(mvhd: bytes) -> int:
    return struct.unpack_from(">I", mvhd, 20 if mvhd[:1] == b"\1" else 12)[0]


def _edited(elst: bytes) -> int:
    """The sum of the parts that show something, in the movie's time scale."""
    (count,) = struct.unpack_from(">I", elst, 4)
    layout = ">QqI" if elst[:1] == b"\1" else ">IiI"
    size, total = struct.calcsize(layout), 0
    for row in range(min(count, (len(elst) - 8) // size)):
        duration, media_time, _ = struct.unpack_from(layout, elst, 8 + row * size)
        total += duration if media_time >= 0 else 0
    return total
