"""What can be wrong with a data set. Reading for training stops at the first error; a check collects all faults."""

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
