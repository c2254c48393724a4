"""Small data sets without a fault, to be spoiled."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image
from pocketvision.datasets.checking.check import Checked, check_data
from pocketvision.datasets.checking.reading import read_split
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.mask_folder import MaskFolder

SIZE = 48, 64  # h, w of every image
_ID = 0x0112


def picture(number: int) -> np.ndarray:
    """Big soft blots, others for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(image: np.ndarray, ending: str = ".png", *, mode: str | None = None, orientation: int = 1) -> bytes:
    """An image file's bytes, of RGB or anything else PIL makes of it."""
    made = Image.fromarray(image)
    made = made.convert(mode) if mode else made
    exif = Image.Exif()
    exif[_ID] = orientation
    buffer = io.BytesIO()
    more: dict[str, Any] = {"exif": exif} if orientation != 1 else {}
    made.save(buffer, {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP"}[ending], **more)
    return buffer.getvalue()


class DataSet:
    """What all of them have: files below a root, a reader for them, and a check."""

    source: type
    classes: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, root: Path) -> None:
        self.root = root

    def arguments(self, split: str) -> dict[str, Any]:
        return {"root": self.root, "split": split, **self.classes}

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def check(self, **options: Any) -> Checked:
        return checked(self.source, self.arguments, **{**self.options, **options})


class Boxes(DataSet):
    """COCO json: 6 images to train on and 3 to validate, 12 and 3 boxes of each of two classes."""

    source, options = CocoDetection, {"input_size": SIZE}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.images = root / "images"
        self.images.mkdir()
        self.splits = {"train": self._split(range(6), "t"), "val": self._split(range(6, 9), "v")}

    def _split(self, numbers: range, prefix: str) -> dict[str, Any]:
        images, annotations = [], []
        for number in numbers:
            name = f"{prefix}{number}.png"
            (self.images / name).write_bytes(encoded(picture(number)))
            images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            for place in range(4 if prefix == "t" else 2):
                box = [10 * place + 3, 5 + number, 20, 16]
                annotations.append(
                    {"id": 100 * number + place, "image_id": number, "category_id": 1 + place % 2, "bbox": box}
                )
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "heron"}]
        return {"images": images, "annotations": annotations, "categories": categories}

    def add(self, image: int, box: list[float], *, category: int = 1, split: str = "train") -> None:
        number = 9000 + len(self.splits[split]["annotations"])
        self.splits[split]["annotations"].append(
            {"id": number, "image_id": image, "category_id": category, "bbox": box}
        )

    def write(self, name: str, data: bytes) -> None:
        """Replace the first image's file by one of another name."""
        (self.images / "t0.png").unlink()
        (self.images / name).write_bytes(data)
        self.splits["train"]["images"][0]["file_name"] = name

    def arguments(self, split: str) -> dict[str, Any]:
        return {"annotations": self.root / f"{split}.json", "images": self.images}

    def check(self, **options: Any) -> Checked:
        for split, content in self.splits.items():
            (self.root / f"{split}.json").write_text(json.dumps(content))
        return super().check(**options)


class Masks(DataSet):
    """A mask folder of 6 and 2 pairs; every mask has its two classes, and 255."""

    source, classes = MaskFolder, {"classes": ["sky", "road"]}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for split, numbers in (("train", range(6)), ("val", range(6, 8))):
            for number in numbers:
                self.write(f"{split}/images/{number}.png", encoded(picture(number)))
                self.write(f"{split}/labels/{number}.png", encoded(mask(number)))


def mask(number: int) -> np.ndarray:
    """Class numbers 0 and 1 over and under a line, 255 in one row."""
    values = np.zeros(SIZE, np.uint8)
    values[10 + number :] = 1
    values[-1] = 255
    return values


class City(DataSet):
    """Cityscapes' layout of 6 and 1 images with road (7), car (26, two instances) and ignored pixels."""

    source = Cityscapes

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for split, numbers in (("train", range(6)), ("val", range(6, 7))):
            for number in numbers:
                labels = np.where(mask(number) == 0, 7, np.where(mask(number) == 1, 26, 0)).astype(np.uint8)
                instances = np.where(labels == 26, 26001, labels).astype(np.uint16)
                instances[:, :9][labels[:, :9] == 26] = 26000
                for name, data in (("labelIds", labels), ("instanceIds", instances)):
                    content = cv2.imencode(".png", data)[1].tobytes()
                    self.write(f"gtFine/{split}/town/town_{number}_gtFine_{name}.png", content)
                self.write(f"leftImg8bit/{split}/town/town_{number}_leftImg8bit.png", encoded(picture(number)))

    def path(self, split: str, number: int, kind: str) -> Path:
        return self.root / f"gtFine/{split}/town/town_{number}_gtFine_{kind}.png"


class Folders(DataSet):
    """A folder for each of two classes, 5 and 1 images in each."""

    source = ImageFolder

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for split, numbers in (("train", range(5)), ("val", range(5, 6))):
            for number in numbers:
                for place, name in enumerate(("cat", "heron")):
                    self.write(f"{split}/{name}/{number}.png", encoded(picture(100 * place + number)))


def checked(
    source: type,
    arguments: Callable[[str], dict[str, Any]],
    *,
    splits: tuple[str, ...] = ("train", "val"),
    **options: Any,
) -> Checked:
    """What a check finds in the splits that `arguments` gives a source's arguments for."""

    def reader(split: str) -> Callable[..., Any]:
        return lambda report, train: read_split(source, arguments(split), labels=train and train.labels, report=report)

    return check_data({split: reader(split) for split in splits}, **{"workers": 0, **options})


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """This module: tests are no package to import from."""
    return sys.modules[__name__]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[type], Any]:
    """Writes a data set of a kind."""
    return lambda kind: kind(tmp_path)
