"""What can be wrong with a data set. Reading for training stops at the first error; a check collects all faults."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """An error spoils training or its figures, or stops it; a warning is worth a look."""

    error = "error"
    warning = "warning"


KINDS: dict[str, Severity] = {
    "format": Severity.error,  # a file or a record that is not what the format says
    "outside_root": Severity.error,  # a file name that leaves the data's folder
    "no_size": Severity.error,  # an image of no width or height
    "clashing_ids": Severity.error,  # one id, several things
    "unknown_category": Severity.error,  # an annotation of a class that is not listed
    "unknown_image": Severity.error,  # an annotation of an image that is not listed
    "other_classes": Severity.error,  # a split whose classes are not those of the training split
    "undecodable": Severity.error,  # a picture that does not open
    "missing_annotation": Severity.error,  # an image of a list that has no annotation file
    "not_normalized": Severity.error,  # YOLO: numbers that are no fractions of the image's sides
    "shared_annotation": Severity.warning,  # one annotation file, several images
    "other_filename": Severity.warning,  # an xml that names another image than its own name does
    "zero_based": Severity.warning,  # a coordinate of 0 where they count from 1
}


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the file that has it, and a sentence that names file, value and remedy."""

    kind: str
    path: str
    message: str
    image: str = ""  # the photograph it concerns, relative to the images' folder
    box: tuple[float, float, float, float] | None = None  # in it, xyxy pixels

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind]


Report = Callable[[Fault], None]


def refuse(fault: Fault) -> None:
    """The strict `Report`: an error ends the reading.

    Raises:
        ValueError: the fault is an error.
    """
    if fault.severity is Severity.error:
        raise ValueError(fault.message)


class Strict:
    """A `Report` that refuses errors as `refuse` does, and counts warnings for a source's notes."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def __call__(self, fault: Fault) -> None:
        refuse(fault)
        self._first.setdefault(fault.kind, fault.message)
        self._counts[fault.kind] += 1

    def notes(self) -> list[str]:
        """A line for each kind: how often, and the first one."""
        return [
            f"{message}{f' (and {self._counts[kind] - 1} more like it)' if self._counts[kind] > 1 else ''}"
            for kind, message in self._first.items()
        ]
