"""What every source of data returns: one image with its annotations, before augmentation."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..labels import LabelMap

Array = np.ndarray


@dataclass
class Sample:
    """One image and its annotations: boxes (xyxy pixels), a mask, or a label; the others stay None."""

    image: Array  # uint8 [H, W, 3] RGB
    image_id: int | str
    boxes: Array | None = None  # float32 [N, 4], the training targets: clipped to the image, none degenerate
    labels: Array | None = None  # int64 [N], slots from 1
    crowd_boxes: Array | None = None  # float32 [M, 4], regions where unmatched predictions are not errors
    crowd_labels: Array | None = None  # int64 [M]
    mask: Array | None = None  # uint8 [H, W], slots from 0, 255 ignored
    label: int | None = None  # the class of the whole image, a slot from 0
    ground_truth: dict[str, Any] | None = None  # for evaluation: the files' own numbers, in original pixels
    path: str = ""
    instances_path: str = ""  # an instance-id picture for evaluation


NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


@dataclass
class Pending:
    """A sample whose picture is not decoded yet, so that the crop can be chosen first."""

    sample: Sample  # its image is empty
    size: tuple[int, int]  # h, w of the whole picture
    decode: Callable[[int], Array]  # see `pixels`
    fault: Exception | None = None  # why it could not be decoded

    def pixels(self, reduction: int = 1) -> Array:
        """uint8 [H, W, 3], a JPEG optionally at 1/2, 1/4 or 1/8 of its sides. An exception is kept as `fault`."""
        try:
            return self.decode(reduction)
        except Exception as error:
            self.fault = error
            raise

    def read(self) -> Sample:
        return replace(self.sample, image=self.pixels())


class Source(Protocol):
    """A dataset without augmentation.

    It may have `open(index) -> Pending` besides `read`, and the `decoder` that reads its files.
    """

    @property
    def labels(self) -> LabelMap: ...

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know once: what was found, clipped, dropped."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample: ...

    def fingerprint(self) -> str:
        """A `digest` of what training reads, in order: names, sizes, annotations.

        Without paths, so that moved data is the same data, and without pixels, which would take too long.
        """
        ...


def digest(*parts: Array | str) -> str:
    """The first 16 hex digits of a SHA-256 over arrays and texts; the same in every process and on every machine.

    Each part is preceded by its kind, dtype, shape and length, so that no end of one part can be taken for the
    beginning of the next.

    Raises:
        TypeError: an array of Python objects, which contains addresses instead of content.
    """
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            kind, content = "text", part.encode("utf-8", "surrogatepass")
        elif part.dtype.hasobject:
            raise TypeError(f"an array of {part.dtype} has no fingerprint: use numbers, or texts as one JSON string")
        else:
            array = part.astype(part.dtype.newbyteorder("<"), copy=False)
            kind, content = f"array {array.dtype.str} {array.shape}", array.tobytes()
        state.update(f"{kind} {len(content)}\n".encode())
        state.update(content)
    return state.hexdigest()[:16]


def check_limit(limit: int | None) -> int | None:
    """Returns `limit` (the number of images to use), which must be at least 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: expected the number of images to use, or null for all")
    return limit


def evenly(total: int, count: int) -> list[int]:
    """At most `count` indices, from the first to the last of `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()


def log_summary(source: Source) -> None:
    for note in source.notes:
        logging.getLogger(__name__).info("%s: %s", type(source).__name__, note)
