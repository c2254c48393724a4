"""The kinds of fault in a dataset. Reading for training stops at the first error; a check collects all faults."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..images.files import Found


class Severity(Enum):
    """An error stops training or falsifies its results; a warning is worth a look; a note is for information."""

    error = "error"
    warning = "warning"
    note = "note"


KINDS: dict[str, Severity] = {
    "format": Severity.error,  # a file or a record that violates the format
    "outside_root": Severity.error,  # a file name that leaves the data's folder
    "no_size": Severity.error,  # an image without width or height
    "clashing_ids": Severity.error,  # one id for several records
    "unknown_category": Severity.error,  # an annotation of a class that is not listed
    "unknown_image": Severity.error,  # an annotation of an image that is not listed
    "other_classes": Severity.error,  # a split whose classes are not those of the training split
    "missing_annotation": Severity.error,  # an image of a list that has no annotation file
    "not_normalized": Severity.error,  # YOLO: numbers that are not fractions of the image's sides
    "shared_annotation": Severity.warning,  # one annotation file, several images
    "other_filename": Severity.warning,  # an XML file that names another image than its own file name does
    "zero_based": Severity.warning,  # a coordinate of 0 where they count from 1
    # records
    "clashing_annotation_ids": Severity.warning,  # one id for several annotations
    "same_name": Severity.error,  # one file, listed several times
    "case_names": Severity.warning,  # names that differ only in upper and lower case
    "unlisted": Severity.warning,  # a picture that no split lists
    "left_out": Severity.note,  # files in a data folder that no reader takes
    "spare_annotation": Severity.warning,  # an annotation file of no image
    "near_name": Severity.warning,  # an image or an annotation file that is found under another spelling
    # files
    "missing": Severity.error,  # listed, but does not exist
    "unreadable": Severity.error,  # exists, but cannot be read
    "empty_file": Severity.error,  # zero bytes
    "undecodable": Severity.error,  # cannot be decoded
    "truncated": Severity.error,  # its end is missing; decoders fill it with gray
    "damaged": Severity.warning,  # can be decoded, but with complaints from the decoder
    "mislabelled": Severity.warning,  # of another format than its extension says
    "bomb": Severity.error,  # decoding it could exhaust memory
    "crash": Severity.error,  # decoding it ended the process, or did not end
    "wrong_size": Severity.error,  # not the size that the annotation says
    "exif_rotation": Severity.error,  # annotated without the rotation that its EXIF specifies
    "exif_unclear": Severity.note,  # rotated by EXIF in a way that sizes cannot reveal
    "grey": Severity.note,
    "alpha": Severity.note,
    "cmyk": Severity.note,
    "deep": Severity.note,  # more than 8 bits
    # boxes
    "box_away": Severity.error,  # entirely outside its image
    "box_degenerate": Severity.error,  # no width or no height
    "box_outside": Severity.warning,  # extends outside its image
    "box_tiny": Severity.warning,  # almost nothing after the resize
    "duplicate_box": Severity.warning,  # same class, same box
    "two_classes": Severity.warning,  # same box, other class
    "no_anchor": Severity.warning,  # a class most of whose boxes match no anchor
    # masks
    "missing_mask": Severity.error,  # an image without its mask
    "mask_type": Severity.error,  # a mask in color, with more than 8 bits, or lossy
    "mask_size": Severity.error,  # not its image's size
    "unknown_label": Severity.error,  # values that belong to no class
    "all_ignored": Severity.warning,  # all pixels are ignored
    "instances": Severity.error,  # instance ids that contradict the labels
    # classes
    "class_untrained": Severity.error,  # in validation only
    "class_absent": Severity.warning,  # in no split
    "class_ignored": Severity.warning,  # its number is among those to ignore
    "class_empty": Severity.error,  # a class folder without images
    "class_rare": Severity.warning,  # very few examples
    "class_alike": Severity.warning,  # two names that may be one
    "class_unevaluated": Severity.note,  # in training only
    # copies
    "overlap": Severity.error,  # the same file in training and validation
    "near_overlap": Severity.warning,  # nearly the same picture in both
    "duplicate_image": Severity.warning,  # the same file twice in one split
    "near_duplicate": Severity.note,  # nearly the same picture twice in one split
}


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the file it is in, and a sentence that names file, value and remedy."""

    kind: str
    path: str
    message: str
    image: str = ""  # the photograph it concerns, relative to the images' folder
    box: tuple[float, float, float, float] | None = None  # in it, xyxy pixels
    other: str = ""  # another file involved: the original of a copy

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind]


Report = Callable[[Fault], None]
Tell = Callable[[str, str], None]  # the same for one file, by a kind of fault and a sentence or the rest of one


def refuse(fault: Fault) -> None:
    """The strict `Report`: an error stops reading.

    Raises:
        ValueError: the fault is an error.
    """
    if fault.severity is Severity.error:
        raise ValueError(fault.message)


def tell_left_out(found: Found, report: Report) -> None:
    """Report what a search of a folder left out."""
    if found.note:
        report(Fault("left_out", str(found.folder), found.note))


class Strict:
    """A `Report` that rejects errors like `refuse` and counts warnings for a source's notes."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def __call__(self, fault: Fault) -> None:
        refuse(fault)
        self._first.setdefault(fault.kind, fault.message)
        self._counts[fault.kind] += 1

    def notes(self) -> list[str]:
        """One line per kind: the first fault and the count."""
        return [
            f"{message}{f' (and {self._counts[kind] - 1} more like it)' if self._counts[kind] > 1 else ''}"
            for kind, message in self._first.items()
        ]
