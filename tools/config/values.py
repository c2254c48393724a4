"""What the keys of the open groups take: types, ranges, and the spellings that people write."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ...conf.limits import check_ranges, ranged
from ...datasets.augmentation.resize import RESIZES
from ...datasets.images.headers import max_pixels


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        text: what it takes, after "expected".
        read: a value in its usual form; raises ValueError, TypeError or OverflowError for anything else.
        optional: whether null is a value.
    """

    text: str
    read: Callable[[Any], Any]
    optional: bool = False

    def or_null(self) -> "Kind":
        return replace(self, text=f"{self.text}, or null", optional=True)


def _refuse(value: Any) -> Any:
    raise ValueError(value)


def _integer(value: Any) -> int:
    """128 and 128.0; not true, not "128"."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return _refuse(value)
    return int(value)


def _integers(value: Any) -> list[int]:
    return [_integer(item) for item in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else _refuse(value)


def _path(value: Any) -> str | Path:
    """A path, also one that YAML reads as a number or a word: a folder 2007, or nan."""
    if isinstance(value, int | float) and Path(text := str(value).lower()).exists():
        return text
    return value if isinstance(value, Path) else _text(value)


def _size(value: Any) -> list[int]:
    """[h, w] from [h, w], from one side of a square, and from 640x640, whose order does not matter."""
    if isinstance(value, str):
        sides = re.fullmatch(r"(\d+) ?[xX*,] ?(\d+)", value.strip())
        value = int(sides[1]) if sides and sides[1] == sides[2] else _refuse(value)
    height, width = _integers(value) if isinstance(value, list) else _integers(value) * 2
    return [height, width] if min(height, width) > 0 and height * width <= max_pixels() else _refuse(value)


def _names(value: Any) -> str | list[str]:
    """A file, or a list whose entries YAML may have read as numbers."""
    if isinstance(value, list):
        return [str(item) if isinstance(item, int) and not isinstance(item, bool) else _text(item) for item in value]
    return _text(value)


def _colors(value: Any) -> list[list[int]]:
    rows = [_integers(row) for row in (value if not value or isinstance(value[0], list) else [value])]
    return rows if all(len(row) == 3 and min(row) >= 0 and max(row) <= 255 for row in rows) else _refuse(value)


def within(kind: Callable[[Any], Any], least: float, most: float) -> Callable[[Any], Any]:
    """`kind`, of which each number has to lie within these limits."""

    def read(value: Any) -> Any:
        found = kind(value)
        numbers = found if isinstance(found, list) else [found]
        return found if all(least <= number <= most for number in numbers) else _refuse(value)

    return read


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _refuse(value)


_FLOAT32 = 3e38  # the largest number of any use


def choice(*options: str) -> Kind:
    return Kind(f"one of {', '.join(options)}", lambda value: value if value in options else _refuse(value))


def whole(least: int, most: int = 2**31 - 1) -> Kind:
    limits = f"from {least} to {most}" if most < 2**31 - 1 else f"of {least} or more"
    return Kind(f"a whole number {limits}", within(_integer, least, most))


def number(least: float = -_FLOAT32, most: float = _FLOAT32, *, text: str = "a number") -> Kind:
    return Kind(text, within(_number, least, most))


def numbers(count: int | None, least: float = -_FLOAT32, most: float = _FLOAT32, *, text: str = "numbers") -> Kind:
    def read(value: Any) -> list[float]:
        found = [_number(item) for item in value] if isinstance(value, list) else _refuse(value)
        return found if count in (None, len(found)) else _refuse(value)

    return Kind(f"{f'a list of {count}' if count else 'a list of'} {text}", within(read, least, most))


_TINY = 1e-12  # instead of 0 where a number has to be above it
COUNT = whole(1)
PATH = Kind("a path", _path)
TEXT = Kind("a word", _text)  # one of a few, which the class that takes it lists
NAMES = Kind("a list of names, or a file of them", _names)
SIZE = Kind("[h,w] in pixels, e.g. [320,480], or one number for a square, no larger than a picture may be", _size)
SWITCH = Kind("true or false", lambda value: value if isinstance(value, bool) else _refuse(value))
SHARE = number(0, 1, text="a number from 0 to 1")
POSITIVE = number(_TINY, text="a number above 0")
WEIGHT = number(0, text="a number of 0 or more")

# Every key of the files in conf/, below its group: a user's own classes may give them another meaning.
DATA: Mapping[str, Kind] = {
    "task": choice("detection", "segmentation", "classification"),
    "num_classes": COUNT.or_null(),
    **dict.fromkeys(("input_size", "eval_size"), SIZE.or_null()),
    "size": SIZE,
    "resize": choice(*RESIZES),
    "crop_fraction": number(_TINY, 1, text="a number above 0 and at most 1"),
    "holdout": number(_TINY, 1 - _TINY, text="a number between 0 and 1, the share of the images").or_null(),
    "limit": COUNT.or_null(),
    "split": Kind("the name of a split", _text),
    # where the files are
    **dict.fromkeys(("root", "train_json", "images"), PATH),
    **dict.fromkeys(("val_json", "val_images", "folder", "annotations", "lists", "masks"), PATH.or_null()),
    # classes
    "classes": NAMES.or_null(),
    "slots": choice("contiguous", "coco91"),
    "ignore_ids": Kind("whole numbers from 0 to 255, e.g. [11], or one of them", within(_integers, 0, 255)),
    "ignore_colors": Kind("colors of three numbers from 0 to 255, e.g. [[0,0,0]], or one of them", _colors),
    # PASCAL VOC
    "years": Kind("years, e.g. [2007,2012], or one of them", within(_integers, 1900, 2100)).or_null(),
    "difficult": choice("crowd", "object", "drop"),
    "one_based": SWITCH.or_null(),
    # generated scenes
    "preset": choice("standard", "hard"),
    "shuffle_labels": SWITCH,
    **dict.fromkeys(("num_train", "num_val", "length"), COUNT),
    "seed": whole(0),
}
_NORM: Mapping[str, Kind] = {"bn_eps": POSITIVE, "bn_momentum": number(_TINY, 1, text="a number above 0 and at most 1")}
BACKBONE: Mapping[str, Kind] = {
    **_NORM,
    **dict.fromkeys(("variant", "scaling", "stem", "nonlinearity", "atrous", "padding", "gate", "init"), TEXT),
    **dict.fromkeys(("reduced", "last"), TEXT.or_null()),
    "width": number(_TINY, 100, text="a number above 0 and at most 100"),
    **dict.fromkeys(("min_depth", "divisor", "squeeze_divisor", "output_stride"), whole(1, 10_000)),
    **dict.fromkeys(("minimalistic", "first_residual"), SWITCH),
}
MODEL: Mapping[str, Kind] = {
    **_NORM,
    "task": choice("detection", "segmentation", "classification"),
    # network
    **dict.fromkeys(("low", "high", "padding", "gate", "pool", "skip", "channel_order"), TEXT),
    "init": TEXT.or_null(),
    "taps": Kind("a list of feature maps, e.g. [c4_expansion,c5]", _names),
    "extra_channels": Kind("a list of whole numbers of 1 or more", within(_integers, 1, 100_000)),
    **dict.fromkeys(("min_depth", "filters"), whole(1, 100_000)),
    "hidden": whole(1, 100_000).or_null(),
    **dict.fromkeys(("p", "q"), whole(1, 1000)),
    "width": number(_TINY, 100, text="a number above 0 and at most 100"),
    "dilations": Kind("a list of whole numbers of 1 or more", within(_integers, 1, 1000)),
    "dropout": number(0, 1 - _TINY, text="a number from 0, below 1"),
    "class_bias": number(),
    "mean": numbers(3),
    "std": numbers(3, _TINY, text="numbers above 0"),
    **dict.fromkeys(("gate_bias", "align_corners", "pad_input", "void"), SWITCH),
    # anchors
    "aspect_ratios": numbers(None, _TINY, text="numbers above 0"),
    "extra_position": whole(0),
    **dict.fromkeys(("clamp", "follow_sides", "reduce_first"), SWITCH),
    # criterion
    **dict.fromkeys(("class_weight", "box_weight", "region_weight", "gamma", "score_power", "overlap_power",
                     "negatives_per_positive"), WEIGHT),
    "class_weights": numbers(None, 0, text="numbers of 0 or more, one for each class").or_null(),
    **dict.fromkeys(("alpha", "threshold", "label_smoothing"), SHARE),
    "crowd_fraction": SHARE.or_null(),
    "ohem_threshold": number(_TINY, 1, text="a number above 0 and at most 1").or_null(),
    "anchors_per_box": COUNT,
    "least_matches": POSITIVE,
    **dict.fromkeys(("min_negatives", "ohem_min_kept"), whole(0)),
    "box_loss": TEXT,
    # postprocess and metric
    **dict.fromkeys(("activation", "clip", "backend"), TEXT),
    **dict.fromkeys(("min_score", "max_iou"), SHARE),
    **dict.fromkeys(("top_k", "max_per_class"), COUNT.or_null()),
    "max_detections": COUNT,
    "max_log_size": POSITIVE,
}  # fmt: skip
OPTIMIZER: Mapping[str, Kind] = {
    "lr": WEIGHT,
    **dict.fromkeys(("alpha", "momentum"), number(0, 1 - _TINY, text="a number from 0, below 1")),
    "betas": numbers(2, 0, 1 - _TINY, text="numbers from 0, below 1"),
    "eps": POSITIVE,
    "weight_decay": WEIGHT,
    "fused": SWITCH,
}
AUGMENT: Mapping[str, Kind] = {
    "mosaic": SHARE,
    "size": SIZE,
    "fit": SIZE.or_null(),
    "resize": choice(*RESIZES),
    "scale": numbers(2, _TINY, text="numbers above 0"),
}
GROUPS = {"backbone": BACKBONE, "model": MODEL, "data": DATA, "optimizer": OPTIMIZER, "augment": AUGMENT}
_NUMBER_AS_TEXT = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?")
_OURS = ("pocketvision.", "torch.optim.")


def normalize(config: DictConfig) -> None:
    """Bring all values into their usual form, in place: `~` in paths, ranges, and what the open groups' keys take.

    Raises:
        ValueError: a value is of another kind; names the key, the value and what the key takes.
    """
    _expand_home(config)
    check_ranges({key: config[key] for key in ranged() if key in config and not OmegaConf.is_missing(config, key)})
    for group, kinds in GROUPS.items():
        if isinstance(node := config.get(group), DictConfig):
            _check(node, group, kinds)


def _expand_home(node: DictConfig | ListConfig) -> None:
    """No shell expands what follows `data.root=`, and nothing but a path begins with ~/ or $HOME."""
    keys: Any = node if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig | ListConfig):
            _expand_home(value)
        elif isinstance(value, str) and value.startswith(("~", "$HOME")):
            node[key] = os.path.expanduser(re.sub(r"^\$HOME(?=/|$)", "~", value))
            if re.match(r"~\w[\w.-]*/", node[key]):
                raise ValueError(f"{key}={value}: there is no user {value[1 : value.index('/')]} with a home folder")


def _check(node: DictConfig, path: str, kinds: Mapping[str, Kind]) -> None:
    if not str(node.get("_target_", _OURS[0])).startswith(_OURS):
        return
    for key in map(str, node):
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig) and key not in kinds:
            _check(value, f"{path}.{key}", kinds)
        elif isinstance(value, ListConfig) and len(value) and all(isinstance(item, DictConfig) for item in value):
            for i, item in enumerate(value):
                _check(item, f"{path}.{key}.{i}", kinds)
        elif key in kinds:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            read = value_of(f"{path}.{key}", plain, kinds[key])
            if repr(read) != repr(plain):  # 5.0 becomes 5
                node[key] = read


def taken_by(key: str) -> str:
    """What a key of a group takes, if that is known."""
    group, _, name = key.partition(".")
    kind = GROUPS.get(group, {}).get(name.rpartition(".")[2])
    return kind.text if kind else ""


def value_of(key: str, value: Any, kind: Kind) -> Any:
    """`value` in its usual form; ValueError if it is of another kind."""
    if value is None and kind.optional:
        return None
    try:
        return kind.read(value)
    except (ValueError, TypeError, OverflowError):
        shown = str(value).replace(" ", "") if isinstance(value, list) else "null" if value is None else value
        shown = repr(value) if isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(value) else shown
        raise ValueError(f"{key}={shown}: expected {kind.text}") from None
