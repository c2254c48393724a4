"""Checks how many examples the classes have, and whether two of them are the same class."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...words import counted
from ..annotations.faults import Fault
from ..labels import IGNORE, LabelMap
from .contents import Contents
from .examine import Examined

RARE_BOXES, RARE_IMAGES = 10, 5  # a class is rare with fewer training examples than this: boxes, or images
_MUCH = 0.01  # a share of ignored pixels that may be a class
_ONE_EDIT = 6  # names of at least this length are alike if they differ in one letter


@dataclass(frozen=True)
class ClassCounts:
    """Counts of a split by slot: boxes, pixels or images of a class, and images containing it."""

    what: str  # boxes, pixels or images
    examples: dict[int, int]
    images: dict[int, int]
    ignored: str = ""  # what looks like examples and is none


def count_classes(contents: Contents, examined: list[Examined]) -> ClassCounts:
    """Counts boxes except crowd regions, mask pixels, or images."""
    slots, ignored = contents.labels.names, ""
    if contents.boxes is not None:
        mine = ~contents.boxes.crowd
        if not mine.all():
            ignored = f"{(~mine).sum():,} of {len(mine):,} boxes are crowd regions or difficult, which are no examples"
        rows = np.stack([contents.boxes.image[mine], contents.boxes.slots[mine]], 1)
        examples = np.bincount(rows[:, 1], minlength=1)
        images = np.bincount(np.unique(rows, axis=0)[:, 1], minlength=1) if len(rows) else examples
    elif contents.slots is not None:
        examples = images = np.bincount(contents.slots, minlength=1)
    else:
        examples, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        for one in examined:
            for slot, pixels in one.pixels.items():
                examples[slot] += pixels
                images[slot] += 1
        slots = [slot for slot in slots if slot != IGNORE]
        if (share := examples[IGNORE] / max(examples.sum(), 1)) >= _MUCH:
            ignored = f"{share:.0%} of the pixels hold ignored values"

    def known(counts: np.ndarray) -> dict[int, int]:
        return {slot: int(counts[slot]) if slot < len(counts) else 0 for slot in slots}

    what = {"detection": "boxes", "segmentation": "pixels", "classification": "images"}[contents.kind]
    return ClassCounts(what, known(examples), known(images), ignored)


def check_classes(labels: LabelMap, counts: Mapping[str, ClassCounts], source: str) -> Iterator[Fault]:
    """Classes with no or few examples in the splits that were read."""
    train, val = counts.get("train"), counts.get("val")
    ignored = next((f"; {split.ignored}" for split in counts.values() if split.ignored), "")
    for slot, name in labels.names.items():
        if (slot, name) == (0, "background"):
            continue
        here, there = (None if split is None else split.images.get(slot, 0) for split in (train, val))
        kind, problem = _problem(here, there, train, slot)
        if kind:
            yield Fault(kind, source, f"class {name} {problem}{ignored if kind == 'class_absent' else ''}")
    yield from _alike(labels, source)


def _problem(here: int | None, there: int | None, train: ClassCounts | None, slot: int) -> tuple[str, str]:
    if here == 0 and there:
        return "class_untrained", f"is in {counted(there, 'image')} of val, but in none of train: it cannot be learned"
    if here == 0 or (here is None and there == 0):
        return "class_absent", "has no example in any split" if there is not None else "has no example"
    if train is not None and here:
        examples = train.examples[slot]
        if train.what == "boxes" and examples < RARE_BOXES:
            return (
                "class_rare",
                f"has {counted(examples, 'box')} in train (in {counted(here, 'image')}), fewer than {RARE_BOXES}",
            )
        if train.what != "boxes" and here < RARE_IMAGES:
            return "class_rare", f"is in {counted(here, 'image')} of train, fewer than {RARE_IMAGES}"
        if there == 0:
            return "class_unevaluated", "is in no image of val: no metric covers it"
    return "", ""


def _alike(labels: LabelMap, source: str) -> Iterator[Fault]:
    """Names that differ in case, spaces, punctuation, a plural's s, or (long ones) one letter other than a digit."""
    seen: dict[str, str] = {}
    for name in labels.names.values():
        plain = re.sub(r"[\W_]+", "", name.casefold())
        plain = plain.rstrip("s") if len(plain) > 3 else plain
        keys = {plain} | ({*_shorter(plain)} if len(plain) >= _ONE_EDIT else set())
        others = sorted({seen[key] for key in keys if key in seen})
        for other in others:
            yield Fault("class_alike", source, f"the classes {other!r} and {name!r} have nearly the same spelling")
        for key in keys:
            seen.setdefault(key, name)


def _shorter(word: str) -> Iterator[str]:
    """The word with each letter in turn replaced by *, and with each letter removed."""
    for place, letter in enumerate(word):
        if not letter.isdigit():
            yield f"{word[:place]}*{word[place + 1 :]}"
            yield word[:place] + word[place + 1 :]
