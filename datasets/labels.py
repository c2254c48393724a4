"""Label maps: which class index a network uses for which class, and the official tables of COCO and Cityscapes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..words import counted
from .class_files import class_name, read_class_file

IGNORE = 255  # a mask's value for pixels without a class


@dataclass(frozen=True)
class Label:
    """One class: the network's class index (`slot`), its name, and the id used in files (`source_id`)."""

    slot: int
    name: str
    source_id: int
    category: str | None = None
    color: tuple[int, int, int] | None = None  # RGB


@dataclass(frozen=True)
class LabelMap:
    """The classes of a dataset.

    Detection counts foreground only: slot 0 is background, `num_classes` is the highest slot (K = num_classes + 1).
    Segmentation and classification count every class, from slot 0. There may be gaps: COCO's ids skip ten numbers.
    """

    labels: tuple[Label, ...]
    num_classes: int

    def __post_init__(self) -> None:
        for field in ("slot", "source_id"):
            values = Counter(getattr(label, field) for label in self.labels)
            twice = sorted(value for value, count in values.items() if count > 1)
            if twice:
                raise ValueError(f"each {field} must be unique in a label map, but these occur twice: {twice}")
        wrong = [label for label in self.labels if not 0 <= label.slot <= self.num_classes]
        if wrong:
            raise ValueError(
                f"{wrong[0]} does not fit {counted(self.num_classes, 'class')}: slots go "
                f"from 0 to the number of classes"
            )

    @cached_property
    def names(self) -> dict[int, str]:
        """The names, by slot."""
        return {label.slot: label.name for label in self.labels}

    @cached_property
    def source_ids(self) -> dict[int, int]:
        """The ids used in files (COCO's category id, Cityscapes' labelId), by slot."""
        return {label.slot: label.source_id for label in self.labels}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for a checkpoint."""
        return {"num_classes": self.num_classes, "labels": [asdict(label) for label in self.labels]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "LabelMap":
        """The inverse of `to_json`, also after a round trip through a JSON file (which turns tuples into lists).

        Raises:
            ValueError: the data is not a label map.
        """
        try:
            labels = tuple(_label_from_json(label) for label in data["labels"])
            return LabelMap(labels, int(data["num_classes"]))
        except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"not a label map: {error!r}") from error


def _label_from_json(data: Mapping[str, Any]) -> Label:
    color = tuple(data["color"]) if data.get("color") else None
    label = Label(**{**data, "color": color})
    numbers = (label.slot, label.source_id, *(color or (0, 0, 0)))
    texts = (label.name, label.category or "")
    if len(numbers) != 5 or not all(type(n) is int for n in numbers) or not all(isinstance(t, str) for t in texts):
        raise TypeError(label)
    return label


def detection_labels(categories: Iterable[tuple[int, str, str | None]], *, slots: str = "contiguous") -> LabelMap:
    """Slots for (source id, name, category) triples: `contiguous` numbers them 1..n by id, `coco91` keeps ids 1..90.

    `coco91` always has 91 slots, so that public COCO weights fit.
    """
    rows = sorted(categories, key=lambda row: row[0])
    _check_names((number, name) for number, name, _ in rows)
    if slots == "contiguous":
        labels = tuple(Label(slot, name, i, category) for slot, (i, name, category) in enumerate(rows, start=1))
        return LabelMap(labels, len(labels))
    if slots == "coco91":
        outside = [i for i, _, _ in rows if not 1 <= i <= COCO_LAST_ID]
        if outside:
            raise ValueError(
                f"slots='coco91' keeps COCO's category ids 1 to {COCO_LAST_ID}, but the ids {outside} are outside "
                "this range: use slots='contiguous'"
            )
        return LabelMap(tuple(Label(i, name, i, category) for i, name, category in rows), COCO_LAST_ID)
    raise ValueError(f"unknown slots {slots!r}: choose 'contiguous' or 'coco91'")


def coco_labels(slots: str = "contiguous") -> LabelMap:
    """COCO's 80 classes, without reading a file."""
    known = zip(_COCO_IDS, COCO_CLASSES, strict=True)
    return detection_labels(
        ((i, name, _COCO_CATEGORIES[max(first for first in _COCO_CATEGORIES if first <= i)]) for i, name in known),
        slots=slots,
    )


def segmentation_labels(classes: Sequence[str] | str | Path, *, ignore_ids: Iterable[int] = ()) -> LabelMap:
    """Classes of a mask folder from a list of names or a file (`read_class_file`); masks contain 0..K-1 in this order.

    Classes whose number is in `ignore_ids` (such as a "void" in the list) are left out; the others are numbered without
    gaps.
    """
    ignored = set(ignore_ids)
    kept = [(source_id, row) for source_id, row in class_rows(classes) if source_id not in ignored]
    _check_names((source_id, row["name"]) for source_id, row in kept)
    labels = tuple(
        Label(slot, row["name"], source_id, row.get("category"), row.get("color"))
        for slot, (source_id, row) in enumerate(kept)
    )
    if not labels:
        raise ValueError(f"no classes remain from {classes!r} without ignore_ids {sorted(ignored)}")
    return LabelMap(labels, len(labels))


def _check_names(rows: Iterable[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    for number, name in rows:
        if first.setdefault(name, number) != number:
            ids = f"{first[name]} and {number}"
            raise ValueError(f"the class {name!r} is listed twice (ids {ids}): every class needs a unique name")


def class_rows(classes: Sequence[str] | str | Path) -> list[tuple[int, Any]]:
    """The id used in files and the row (`read_class_file`) of each class."""
    given = isinstance(classes, str | Path)
    rows = read_class_file(classes) if given else [{"name": class_name(name)} for name in classes]
    return [(int(row.get("id", number)), row) for number, row in enumerate(rows)]


def voc_labels() -> LabelMap:
    """PASCAL VOC's 20 classes and background, in the order and colors of its masks."""
    labels = [Label(slot, name, slot, color=_voc_color(slot)) for slot, name in enumerate(VOC_CLASSES)]
    return LabelMap(tuple(labels), len(labels))


def imagenet_labels(*, background: bool = False) -> LabelMap:
    """ImageNet's 1000 classes by their names, in the order of torchvision's and timm's classifiers.

    With `background`, a background class comes first, as in TensorFlow's classifiers.
    """
    from torchvision.models import MobileNet_V3_Large_Weights  # takes a second

    names = ["background"] * background + MobileNet_V3_Large_Weights.IMAGENET1K_V1.meta["categories"]
    return LabelMap(tuple(Label(slot, name, slot) for slot, name in enumerate(names)), len(names))


def _voc_color(slot: int) -> tuple[int, int, int]:
    """VOC's rule: three bits of the index per round set bits of red, green and blue, from the highest bit down."""
    red, green, blue = (
        sum((slot >> (3 * round_ + channel) & 1) << (7 - round_) for round_ in range(3)) for channel in range(3)
    )
    return red, green, blue


def nameless_labels(num_classes: int, *, first: int = 0) -> LabelMap:
    """Placeholder classes if only their number is known; `first` is the lowest slot, 1 in detection."""
    return LabelMap(tuple(Label(i, f"class {i}", i) for i in range(first, first + num_classes)), num_classes)


# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
COCO_LAST_ID = 90  # COCO's ids go up to 90 and skip ten numbers
_COCO_IDS = sorted({*range(1, COCO_LAST_ID + 1)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
# Each of COCO's supercategories begins with this id.
_COCO_CATEGORIES = {
    1: "person", 2: "vehicle", 10: "outdoor", 16: "animal", 27: "accessory", 34: "sports", 44: "kitchen", 52: "food",
    62: "furniture", 72: "electronic", 78: "appliance", 84: "indoor",
}
# fmt: on

# Cityscapes' official table (cityscapesscripts, helpers/labels.py): name, labelId, trainId, category, color.
# trainId 255 is not evaluated.
CITYSCAPES_TABLE: tuple[tuple[str, int, int, str, tuple[int, int, int]], ...] = (
    ("unlabeled", 0, 255, "void", (0, 0, 0)),
    ("ego vehicle", 1, 255, "void", (0, 0, 0)),
    ("rectification border", 2, 255, "void", (0, 0, 0)),
    ("out of roi", 3, 255, "void", (0, 0, 0)),
    ("static", 4, 255, "void", (0, 0, 0)),
    ("dynamic", 5, 255, "void", (111, 74, 0)),
    ("ground", 6, 255, "void", (81, 0, 81)),
    ("road", 7, 0, "flat", (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", (244, 35, 232)),
    ("parking", 9, 255, "flat", (250, 170, 160)),
    ("rail track", 10, 255, "flat", (230, 150, 140)),
    ("building", 11, 2, "construction", (70, 70, 70)),
    ("wall", 12, 3, "construction", (102, 102, 156)),
    ("fence", 13, 4, "construction", (190, 153, 153)),
    ("guard rail", 14, 255, "construction", (180, 165, 180)),
    ("bridge", 15, 255, "construction", (150, 100, 100)),
    ("tunnel", 16, 255, "construction", (150, 120, 90)),
    ("pole", 17, 5, "object", (153, 153, 153)),
    ("polegroup", 18, 255, "object", (153, 153, 153)),
    ("traffic light", 19, 6, "object", (250, 170, 30)),
    ("traffic sign", 20, 7, "object", (220, 220, 0)),
    ("vegetation", 21, 8, "nature", (107, 142, 35)),
    ("terrain", 22, 9, "nature", (152, 251, 152)),
    ("sky", 23, 10, "sky", (70, 130, 180)),
    ("person", 24, 11, "human", (220, 20, 60)),
    ("rider", 25, 12, "human", (255, 0, 0)),
    ("car", 26, 13, "vehicle", (0, 0, 142)),
    ("truck", 27, 14, "vehicle", (0, 0, 70)),
    ("bus", 28, 15, "vehicle", (0, 60, 100)),
    ("caravan", 29, 255, "vehicle", (0, 0, 90)),
    ("trailer", 30, 255, "vehicle", (0, 0, 110)),
    ("train", 31, 16, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", (119, 11, 32)),
    ("license plate", -1, 255, "vehicle", (0, 0, 142)),
)

CITYSCAPES = LabelMap(
    tuple(
        Label(train_id, name, label_id, category, color)
        for name, label_id, train_id, category, color in CITYSCAPES_TABLE
        if train_id != IGNORE
    ),
    num_classes=19,
)

# The average number of pixels per instance, weights in Cityscapes' evaluation (evalPixelLevelSemanticLabeling).
CITYSCAPES_INSTANCE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}


def cityscapes_labels() -> LabelMap:
    """Cityscapes' 19 evaluated classes."""
    return CITYSCAPES


def instance_sizes(labels: LabelMap) -> dict[int, tuple[int, float]]:
    """Slot -> (number in instance files, average size in pixels) of Cityscapes' classes that have instances."""
    return {
        label.slot: (label.source_id, CITYSCAPES_INSTANCE_SIZES[official.name])
        for official in CITYSCAPES.labels
        for label in labels.labels
        if official.name in CITYSCAPES_INSTANCE_SIZES
        and (label.name, label.source_id) == (official.name, official.source_id)
    }
