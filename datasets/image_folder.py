"""Classification data: one folder of photographs per class, the usual layout of ImageNet."""

import json
import os
import re
from pathlib import Path

import numpy as np

from ..words import counted, verb
from .annotations.faults import Fault, Report, Strict, tell_left_out
from .annotations.sample import Sample, check_limit, digest
from .annotations.shared import Names, SharedArrays
from .annotations.split_lists import split_folder
from .images.decoder import Decoder, PictureFile
from .images.files import IMAGE_ENDINGS, find_files, is_hidden, list_files
from .labels import Label, LabelMap

_WORDNET_ID = re.compile(r"n\d{8}")


class ImageFolder:
    """`ROOT/SPLIT/CLASS/*.jpg`, including subfolders of a class; classes and images in torchvision's order.

    The classes are the folders' names, sorted. Files and folders that begin with a dot are skipped. With `labels` (the
    training split's) the slots come from there: another class is an error, a class without a folder is not. ImageNet's
    own folders (n01440764 ...) are the classes in order, if there is one for each of `labels`. A `report` gets every
    fault instead of an error at the first one.

    Raises:
        FileNotFoundError: the folder does not exist, contains no class, or a class has no images.
        ValueError: a class that `labels` does not have.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        labels: LabelMap | None = None,
        limit: int | None = None,
        report: Report | None = None,
    ) -> None:
        self.folder = split_folder(Path(root), split) or Path(root, split)
        classes = _class_folders(self.folder)
        self.labels = labels or LabelMap(tuple(Label(i, name, i) for i, name in enumerate(classes)), len(classes))
        slots = _class_slots(classes, self.labels)
        _check_classes(classes, slots, self.folder, report)
        told = report or Strict()
        _tell_loose(self.folder, told)
        found = [
            (path, size, slots[name])
            for name in classes
            if name in slots
            for path, size in _images_below(self.folder / name, report, told)
        ]
        if limit is not None:  # from all classes: the files are ordered by class
            count = min(check_limit(limit) or 0, len(found))
            found = [found[i * len(found) // count] for i in range(count)]
        self._paths = Names([os.path.relpath(path, self.folder) for path, _, _ in found])
        sizes, slots_of = (np.array([row[column] for row in found], np.int64) for column in (1, 2))
        self._shared = SharedArrays({"sizes": sizes, "slots": slots_of})
        self.decoder = Decoder()
        absent = len(slots) - len(classes)
        self.notes = [f"{counted(len(found), 'image')} of {counted(len(classes), 'class')} in {self.folder}"]
        self.notes += (
            [f"{absent} of {counted(len(slots), 'class')} {verb(absent, 'has', 'have')} no folder"] if absent else []
        )
        self.notes += told.notes() if isinstance(told, Strict) else []

    @property
    def image_ids(self) -> list[str]:
        """Paths below the split's folder."""
        return [Path(path).as_posix() for path in self._paths.tolist()]

    @property
    def slots(self) -> np.ndarray:
        """int64 [N], the class of each image."""
        return self._shared["slots"]

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Sample:
        """Decode an image; its id is the path below the split's folder."""
        name = self._paths[index]
        path = str(self.folder / name)
        label = int(self._shared["slots"][index])
        return Sample(self.decoder.image(path), Path(name).as_posix(), label=label, path=path)

    def files(self, index: int) -> list[PictureFile]:
        """What `read` decodes."""
        return [PictureFile(self.folder / self._paths[index])]

    def fingerprint(self) -> str:
        """Over the images' names below the folder, their sizes in bytes, and the classes."""
        return digest(
            json.dumps([self.image_ids, sorted(self.labels.names.items())]),
            self._shared["sizes"],
            self._shared["slots"],
        )


def _check_classes(classes: list[str], slots: dict[str, int], folder: Path, report: Report | None) -> None:
    """Raise ValueError for classes without a slot, or report each."""
    other = [name for name in classes if name not in slots]
    if other and report is None:
        raise ValueError(
            f"{folder} has the class {', '.join(other[:5])}, which the training data or the model does not have "
            f"({', '.join(list(slots)[:5])}, ... {len(slots)} in total): remove or rename the folder"
        )
    for name in other:
        message = f"{folder / name} is the folder of a class that the training split does not have"
        if report:
            report(Fault("other_classes", str(folder / name), message))


def _tell_loose(folder: Path, report: Report) -> None:
    """Report images that are in no class folder."""
    if loose := list_files(folder, IMAGE_ENDINGS, deep=False):
        message = f"left out: {folder} has images outside the class folders, {len(loose)} in number, such as {loose[0]}"
        report(Fault("left_out", str(folder), message))


def _class_slots(classes: list[str], labels: LabelMap) -> dict[str, int]:
    """The slot of each class's folder."""
    slots = {name: slot for slot, name in labels.names.items()}
    real = [slot for name, slot in slots.items() if name != "background"]
    if len(classes) == len(real) == 1000 and all(_WORDNET_ID.fullmatch(name) for name in classes):
        return dict(zip(classes, real, strict=True))
    return slots


def _class_folders(folder: Path) -> list[str]:
    """The names of a split's classes, sorted.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no class.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder not found: {folder}, expected one folder per class in it")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    if not classes:
        raise FileNotFoundError(f"{folder} has no subfolders: expected one per class, with its images")
    return classes


def _images_below(folder: Path, report: Report | None, tell: Report) -> list[tuple[str, int]]:
    """(path, bytes) of the images below a class's folder: folder by folder, by name in each.

    Raises:
        FileNotFoundError: there are none and `report` is None.
    """
    found = find_files(folder, IMAGE_ENDINGS)
    tell_left_out(found, tell)
    if not found.names:
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        message = f"class folder {folder} has no images (extensions {endings}): add some or remove it"
        if report is None:
            raise FileNotFoundError(message)
        report(Fault("class_empty", str(folder), message))
    names = sorted(found.names, key=lambda name: name.rpartition("/")[::2])
    sized: list[tuple[str, int]] = []
    for path in (f"{folder}/{name}" for name in names):
        try:
            sized.append((path, os.stat(path).st_size))
        except FileNotFoundError:
            tell(Fault("missing", path, f"{path} does not exist: it is a link to nothing"))
    return sized
