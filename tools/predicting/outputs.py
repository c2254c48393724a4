"""Prediction's output files: pictures, videos, JSON, COCO results, CSV and masks, written as results arrive.

Each writer's `write` takes one image's result; `close` completes its files, also after an interruption. Until then
they have temporary names: a file with the final name is always valid.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ...files import naming, own_place
from ..drawing.pictures import write_image
from ..system.console import log
from .inputs import Shot
from .result import Result
from .videos import quietly

# What each kind of model can write; `_DEFAULT` is written unless `write=` is set.
WRITES = {
    "detection": ("pictures", "json", "csv", "coco"),
    "segmentation": ("pictures", "json", "csv", "masks", "colors"),
    "classification": ("pictures", "json", "csv"),
}
_DEFAULT = ("pictures", "json", "csv", "masks")
COLUMNS = {
    "detection": ("file", "frame", "category_id", "category", "score", "x1", "y1", "x2", "y2"),
    "segmentation": ("file", "frame", "category_id", "category", "pixels", "share"),
    "classification": ("file", "frame", "category_id", "category", "probability", "rank"),
}
_PAUSE = 2  # frames that one is late: less than that is jitter
_LONGEST_PAUSE = 600.0  # seconds; a longer one is a wrong time stamp, or nothing to wait for
# H.264 plays everywhere, but few OpenCV builds can write it; MPEG-4 plays in players, not in browsers.
_CODECS = ((".mp4", "avc1"), (".mp4", "mp4v"), (".avi", "MJPG"))


@dataclass(frozen=True)
class Found:
    """What a model found in one image."""

    shot: Shot
    result: Result  # of the classes asked for, all scores
    shown: Result  # of the scores asked for
    name: str  # without an extension, for output files
    image_id: int


class Writer(Protocol):
    def write(self, found: Found) -> None: ...
    def close(self) -> None: ...


class _Text:
    """A text file; a file name that is not UTF-8, which Linux allows, is written as JSON escapes."""

    def __init__(self, path: Path, *, newline: str | None = None) -> None:
        self._path, self._part = path, own_place(path)
        self._file = open(self._part, "w", encoding="utf-8", errors="backslashreplace", newline=newline)  # noqa: SIM115

    def close(self) -> None:
        with naming(self._path, self._part):
            self._file.close()
            os.replace(self._part, self._path)


def check_writes(kind: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    """What to write: what the user asked for, or the default for this kind of model.

    Raises:
        ValueError: there is no such output, or not for this kind of model.
    """
    possible = WRITES[kind]
    if asked is None:
        return tuple(name for name in possible if name in _DEFAULT)
    wrong = [name for name in asked if name not in possible]
    if wrong or not asked:
        raise ValueError(f"write=[{','.join(asked)}]: for {kind}, choose from {', '.join(possible)}")
    return tuple(dict.fromkeys(asked))


def make_writers(folder: Path, kind: str, writes: Sequence[str], *, all_masks: bool) -> list[Writer]:
    """The writers for `writes`; `all_masks` also writes the masks of video frames, one file each."""
    makers = {
        "pictures": lambda: Pictures(folder),
        "json": lambda: JsonList(folder / "predictions.json", lambda found: [_entry(found)]),
        "csv": lambda: CsvTable(folder / "predictions.csv", kind),
        "coco": lambda: JsonList(folder / "coco_results.json", lambda found: found.result.to_coco(found.image_id)),
        "masks": lambda: Masks(folder, "mask", Result.label_ids, of_videos=all_masks),
        "colors": lambda: Masks(folder, "color", Result.colors, of_videos=all_masks),
    }
    return [makers[name]() for name in writes]


def _entry(found: Found) -> dict[str, Any]:
    frame = {} if found.shot.frame is None else {"frame": found.shot.frame}
    frame |= {} if found.shot.time is None else {"time": round(found.shot.time, 3)}
    entry = {"image_id": found.image_id} | found.shown.to_json()
    return {"file": str(found.shot.path)} | frame | {key: value for key, value in entry.items() if key != "file"}


class JsonList(_Text):
    """A JSON list to which every result adds entries, one per line."""

    def __init__(self, path: Path, entries_of: Callable[[Found], list[dict[str, Any]]]) -> None:
        super().__init__(path)
        self._entries_of, self._separator = entries_of, "[\n"

    def write(self, found: Found) -> None:
        with naming(self._path):
            for entry in self._entries_of(found):
                self._file.write(self._separator + json.dumps(entry, ensure_ascii=False))
                self._separator = ",\n"

    def close(self) -> None:
        with naming(self._path):
            self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
        super().close()


class CsvTable(_Text):
    """One row per detection, class in a mask, or top class of a classifier."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(path, newline="")
        self._table = csv.writer(self._file)
        self._table.writerow(COLUMNS[kind])

    def write(self, found: Found) -> None:
        frame = "" if found.shot.frame is None else found.shot.frame
        rows = ((str(found.shot.path), frame, *row) for row in csv_rows(found.shown))
        with naming(self._path):
            self._table.writerows([_no_formula(cell) for cell in row] for row in rows)


def _no_formula(cell: Any) -> Any:
    """Spreadsheets run a text that begins like a formula; an apostrophe in front makes it a text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r\n")) else cell


def csv_rows(result: Result) -> Iterable[tuple[Any, ...]]:
    """Rows of the columns after `file` and `frame`."""
    ids = result.label_map.source_ids
    if result.mask is not None:
        size = result.mask.size
        return [(ids.get(slot, slot), name, pixels, round(pixels / size, 6)) for slot, name, pixels in result.shares()]
    assert result.scores is not None
    assert result.labels is not None
    heads = [(ids.get(int(slot), int(slot)), name) for slot, name in zip(result.labels, result.names, strict=True)]
    scores = [round(float(score), 5) for score in result.scores]
    if result.boxes is None:
        best = enumerate(zip(heads, scores, strict=True), start=1)
        return [(*head, score, rank) for rank, (head, score) in best][: len(result.top())]
    boxes = np.round(result.boxes.astype(float), 2).tolist()
    return [(*head, score, *box) for head, score, box in zip(heads, scores, boxes, strict=True)]


class Masks:
    """One PNG per mask; for video frames, if asked for, in a folder named after the video."""

    def __init__(self, folder: Path, suffix: str, array_of: Callable[[Result], np.ndarray], *, of_videos: bool) -> None:
        self._folder, self._suffix, self._array_of, self._of_videos = folder, suffix, array_of, of_videos

    def write(self, found: Found) -> None:
        if found.shot.frame is None:
            write_image(self._folder / f"{found.name}_{self._suffix}.png", self._array_of(found.result))
        elif self._of_videos:
            path = self._folder / f"{found.name}_{self._suffix}s" / f"{found.shot.frame:06d}.png"
            write_image(path, self._array_of(found.result))

    def close(self) -> None:
        pass


class Pictures:
    """The annotated image; the frames of a video become a video of the same size and frame rate."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, ""
        self._video: VideoFile | None = None

    def write(self, found: Found) -> None:
        if found.shot.frame is None:
            write_image(self._folder / f"{found.name}.png", found.shown.draw(score_threshold=0.0))
            return
        if self._video is None or found.name != self._name:
            self.close()
            assert found.shot.rate is not None
            self._name = found.name
            self._video = VideoFile(self._folder / found.name, found.shot.image.shape[:2], rate=found.shot.rate)
        self._video.write(found.shown.draw(score_threshold=0.0, enlarge=False), time=found.shot.time)

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = None


class VideoFile:
    """A video, in the best codec that this OpenCV can write: H.264, MPEG-4 or Motion JPEG.

    Its rate is constant. Before a frame that comes late, the one before is repeated: a pause stays a pause.
    """

    def __init__(self, stem: Path, size: tuple[int, int], *, rate: float) -> None:
        """`size` is the frames' (h, w); codecs need even sides, so an odd one loses its last row or column.

        Raises:
            OSError: this OpenCV can write none of the codecs.
        """
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._rate, self._written = rate, 0
        self._last: np.ndarray | None = None
        if 0 in self._size:
            raise OSError(
                f"{stem.name}: frames of {size[1]}x{size[0]} are too small for a video; drop pictures from write="
            )
        for ending, codec in _CODECS:
            self._path = stem.with_name(stem.name + ending)
            self._part = own_place(self._path)
            fourcc = cv2.VideoWriter.fourcc(*codec)
            self._writer = quietly(cv2.VideoWriter, str(self._part), fourcc, rate, self._size[::-1])
            if self._writer.isOpened():
                log.info("%s: %s, %.4g frames/s", self._path, codec, rate)
                return
            self._part.unlink(missing_ok=True)
        raise OSError(f"this OpenCV cannot write video ({', '.join(c for _, c in _CODECS)}); drop pictures from write=")

    def write(self, frame: np.ndarray, *, time: float | None = None) -> None:
        """Add a frame, to be shown `time` seconds after the first one."""
        height, width = self._size
        if frame.shape[0] < height or frame.shape[1] < width:  # a stream that changes its size midway
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        if time is not None and self._last is not None:
            behind = round(time * self._rate) - self._written
            if behind >= _PAUSE:
                self._add(self._last, min(behind, round(_LONGEST_PAUSE * self._rate)))
        self._last = np.ascontiguousarray(frame[:height, :width, ::-1])
        self._add(self._last, 1)

    def _add(self, frame: np.ndarray, count: int) -> None:
        for _ in range(count):
            self._writer.write(frame)
        self._written += count

    def close(self) -> None:
        self._writer.release()
        with naming(self._path, self._part):
            os.replace(self._part, self._path)
