"""Cityscapes result files: a PNG of label ids per image, in a folder or zip archive, as the server expects."""

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from ...files import whole_file
from ...words import counted
from ..images.decode import mask_from_bytes
from ..images.files import list_files
from ..images.headers import png_header
from ..images.mask_values import PNG_GRAY, PNG_PALETTE
from ..labels import CITYSCAPES, CITYSCAPES_TABLE, IGNORE

PREDICTION_IDS = ("label", "train")
_LABEL_IDS = {row[1] for row in CITYSCAPES_TABLE if row[1] >= 0}
_UNLABELED = 0
_MAX_FILES = 100_000
_SHOWN = 3  # examples of each kind that a message names

Size = tuple[int, int]


def write_result(folder: Path, image_id: str, slots: np.ndarray) -> None:
    """Write a label map of slots, uint8 [H, W], as `<city>_<sequence>_<frame>_labelIds.png`.

    Pixels without a class (255) become label id 0, "unlabeled".
    """
    table = np.full(256, _UNLABELED, np.uint8)
    for slot, label_id in CITYSCAPES.source_ids.items():
        table[slot] = label_id
    _, data = cv2.imencode(".png", cv2.LUT(slots, table))
    (folder / f"{image_id}_labelIds.png").write_bytes(data.tobytes())


def pack_results(folder: Path, archive: Path) -> None:
    """The PNGs of `folder` as a zip archive, which appears when it is complete."""
    with whole_file(archive) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(folder.glob("*.png")):  # PNGs are compressed already
            file.write(path, path.name)


def result_tables(prediction_ids: str) -> tuple[np.ndarray, dict[int, str]]:
    """uint8 [256] from a picture's values to slots, and further values that match instances of a category.

    Those are caravan and trailer: not evaluated as classes, but vehicles in that category's iIoU.
    """
    table, beyond = np.full(256, IGNORE, np.uint8), {}
    for name, label_id, train_id, category, _ in CITYSCAPES_TABLE:
        if train_id != IGNORE:
            table[train_id if prediction_ids == "train" else label_id] = train_id
        elif name in ("caravan", "trailer") and prediction_ids == "label":
            table[label_id] = CITYSCAPES.num_classes + 1 + len(beyond)
            beyond[int(table[label_id])] = category
    return table, beyond


@dataclass(frozen=True)
class _File:
    name: str
    size: int  # bytes
    open: Callable[[], IO[bytes]]


class Results:
    """The pictures of a folder (with its subfolders) or zip archive, by image.

    As in the official script, a picture belongs to the image whose id (`<city>_<sequence>_<frame>`) its name begins
    with; other files are ignored. Archives are read, never unpacked, and no picture is decoded unless it has the size
    of its image.

    Args:
        sizes: image id -> (h, w).
        prediction_ids: the pictures' values: "label" ids, as the server expects, or "train" ids and 255.

    Raises:
        FileNotFoundError: it does not exist, or contains no PNG.
        ValueError: it is not an archive, contains too many files, or `prediction_ids` is invalid.
    """

    def __init__(self, path: str | Path, sizes: Mapping[str, Size], *, prediction_ids: str = "label") -> None:
        if prediction_ids not in PREDICTION_IDS:
            raise ValueError(f"prediction_ids={prediction_ids}: choose {' or '.join(PREDICTION_IDS)}")
        self.path, self.sizes, self.prediction_ids = Path(path), sizes, prediction_ids
        self._allowed = np.zeros(256, bool)
        self._allowed[[*CITYSCAPES.names, IGNORE] if prediction_ids == "train" else list(_LABEL_IDS)] = True
        files = _zip_files(self.path) if self.path.is_file() else _folder_files(self.path)
        if not files:
            raise FileNotFoundError(f"no PNG in {path}: expected one per image, named CITY_SEQUENCE_FRAME*.png")
        self._files: dict[str, list[_File]] = {}
        for file in files:
            if (image_id := _image_of(file.name, sizes)) is not None:
                self._files.setdefault(image_id, []).append(file)

    def check_files(self) -> None:
        """Raise ValueError, naming how many and the first of them, unless each image has exactly one picture."""
        missing = [image_id for image_id in self.sizes if image_id not in self._files]
        twice = [f"{files[0].name} and {files[1].name}" for files in self._files.values() if len(files) > 1]
        self._refuse({"images have no picture": missing, "images have several pictures": twice})

    def check(self) -> None:
        """Raise ValueError, naming how many and the first of them, unless every picture is valid for the server."""
        self.check_files()
        wrong = []
        for image_id in self.sizes:
            try:
                self.read(image_id)
            except ValueError as error:
                wrong.append(str(error))
        self._refuse({"pictures are invalid": wrong})

    def read(self, image_id: str) -> np.ndarray:
        """The values of an image's picture, uint8 [H, W].

        Raises:
            ValueError: it is not a PNG with one channel of 8 bits, differs from its image in size, or has unknown
            values.
        """
        file, (height, width) = self._files[image_id][0], self.sizes[image_id]
        limit = 4 * height * width + (1 << 20)  # far more than a PNG of this size takes
        if file.size > limit:
            raise ValueError(f"{file.name} has {file.size} bytes, more than any picture of {width}x{height} needs")
        try:
            with file.open() as opened:
                data = np.frombuffer(opened.read(limit), np.uint8)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, ValueError) as error:
            raise ValueError(f"{file.name} cannot be read: {error}") from error  # encrypted or corrupt
        header = png_header(data)
        if header is None or header.bit_depth != 8 or header.color_type not in (PNG_GRAY, PNG_PALETTE):
            raise ValueError(f"{file.name} is not a PNG with one channel of 8 bits")
        if header.size != (height, width):
            raise ValueError(
                f"{file.name} is {header.size[1]}x{header.size[0]} (width x height), but its image is {width}x{height}"
            )
        values = mask_from_bytes(data, file.name)
        if unknown := np.flatnonzero((np.bincount(values.ravel(), minlength=256) > 0) & ~self._allowed).tolist():
            other = "train" if self.prediction_ids == "label" else "label"
            raise ValueError(
                f"{file.name} has the values {unknown[:8]}, which are not {self.prediction_ids} ids "
                f"(does it contain {other} ids?)"
            )
        return values

    def _refuse(self, problems: Mapping[str, Sequence[str]]) -> None:
        found = [
            f"{len(offenders)} of {len(self.sizes)} {what}, the first ones: {'; '.join(offenders[:_SHOWN])}"
            for what, offenders in problems.items()
            if offenders
        ]
        if found:
            raise ValueError(f"{self.path}: {'. '.join(found)}")


def _image_of(name: str, image_ids: Mapping[str, Size]) -> str | None:
    """The image whose id is a prefix of the file's name; the longest if several are."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return next((name[:end] for end in range(len(name), 0, -1) if name[:end] in image_ids), None)


def _folder_files(folder: Path) -> list[_File]:
    if not folder.is_dir():
        raise FileNotFoundError(f"neither a folder nor a zip archive: {folder}")
    paths = sorted(folder / name for name in list_files(folder, frozenset({".png"})))
    return [_File(path.relative_to(folder).as_posix(), path.stat().st_size, partial(path.open, "rb")) for path in paths]


def _zip_files(path: Path) -> list[_File]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{path} is neither a folder nor a zip archive: {error}") from error
    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".png")]
    entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX/")]
    if len(entries) > _MAX_FILES:
        raise ValueError(f"{path} has {counted(len(entries), 'picture')}: expected at most {_MAX_FILES}")
    return [_File(entry.filename, entry.file_size, partial(archive.open, entry)) for entry in entries]


def image_sizes(paths: Iterable[str | Path]) -> list[Size]:
    """(h, w) of PNG images, from their headers.

    Raises:
        ValueError: a file is not a PNG.
    """
    sizes = []
    for path in map(Path, paths):
        with path.open("rb") as file:
            header = png_header(np.frombuffer(file.read(26), np.uint8))
        if header is None:
            raise ValueError(f"{path} is not a PNG")
        sizes.append(header.size)
    return sizes
