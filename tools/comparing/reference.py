"""A reference loss curve: what finished runs of one configuration and several seeds have in common, and its file.

The file is a small, readable JSON: one setting per line, then one epoch per line.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...files import write_text
from ...words import counted
from .curves import Curve, Spread

FORMAT = "pocketvision-curve-1"
_HOW = "pocketvision compare runs/A runs/B write=FILE.json creates one from finished runs"
_HEAD: dict[str, Callable[[Any], Any]] = {  # the file's keys above the epochs, and how each is read
    "task": str,
    "settings": lambda value: dict(value.items()),
    "steps_per_epoch": int,
    "images_per_epoch": int,
    "classes": lambda value: None if value is None else tuple(map(str, value)),
    "data": lambda value: None if value is None else str(value),
    "seeds": lambda value: [int(seed) for seed in value],
    "versions": lambda value: dict(value.items()),
}


@dataclass(frozen=True)
class Reference:
    """Finished runs of one configuration and several seeds."""

    name: str  # the file, as given
    task: str
    settings: dict[str, Any]
    seeds: list[int]
    steps_per_epoch: int
    images_per_epoch: int
    classes: tuple[str, ...] | None
    data: str | None  # fingerprint of the training split
    versions: dict[str, str]
    losses: dict[int, dict[str, Spread]]  # for every epoch from 1 to `epochs`
    figures: dict[int, dict[str, Spread]]

    @property
    def epochs(self) -> int:
        return len(self.losses)


def summarise(curves: Sequence[Curve], *, name: str) -> Reference:
    """Mean and range over finished runs that differ only in their seed.

    Raises:
        ValueError: there are none, one is not finished, settings or data differ (the keys are listed), or a seed occurs
            twice.
    """
    if not curves:
        raise ValueError(f"write={name} needs folders of finished runs: pocketvision compare runs/A runs/B write=...")
    first = curves[0]
    for curve in curves:
        _check_finished(curve)
        _check_alike(first, curve)
    seeds = [curve.seed for curve in curves]
    for a, b in pairwise(sorted(curves, key=lambda curve: curve.seed)):
        if a.seed == b.seed:
            raise ValueError(
                f"{a.name} and {b.name} both have seed={a.seed}: a second run with the same seed adds nothing"
            )
    common = {key: getattr(first, key) for key in _HEAD if key != "seeds"}
    shared = [epoch for epoch in first.figures if all(epoch in curve.figures for curve in curves)]
    return Reference(
        name=name,
        seeds=seeds,
        **common,
        losses={epoch: _spreads([curve.losses[epoch] for curve in curves]) for epoch in sorted(first.losses)},
        figures={epoch: _spreads([curve.figures[epoch] for curve in curves]) for epoch in sorted(shared)},
    )


def _check_finished(curve: Curve) -> None:
    if sorted(curve.losses) != list(range(1, curve.epochs + 1)):
        raise ValueError(
            f"{curve.name} has {len(curve.losses)} of {counted(curve.epochs, 'epoch')}, but a reference needs all of "
            "them: run the same pocketvision train command again"
        )
    for epoch, means in curve.losses.items():
        for key, value in means.items():
            if value is None or value <= 0:
                raise ValueError(
                    f"{curve.name}: {key} of epoch {epoch} is not a positive number: this run cannot be a reference"
                )


def _check_alike(first: Curve, other: Curve) -> None:
    told = different(first.settings, other.settings)
    for what in ("steps_per_epoch", "classes", "data"):
        if getattr(first, what) != getattr(other, what):
            told[what] = (getattr(first, what), getattr(other, what))
    if told:
        pairs = [f"{key} {short(a)} and {short(b)}" for key, (a, b) in list(told.items())[:8]]
        raise ValueError(
            f"{first.name} and {other.name} differ in more than the seed: {', '.join(pairs)}"
            f"{' ...' if len(told) > 8 else ''}. A reference needs runs of the same configuration"
        )


def different(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys with two different values. A key that only one has is from another version, or belongs to a `_target_`."""
    return {key: (value, others[key]) for key, value in settings.items() if key in others and value != others[key]}


def short(value: Any) -> str:
    """A setting's value, shortened for a sentence."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _spreads(columns: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    found = {}
    for key in columns[0]:
        values = [column.get(key) for column in columns]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found[key] = Spread(sum(known) / len(known), min(known), max(known))
    return found


# ---- its file -------------------------------------------------------------------------------------------


def write_reference(reference: Reference, path: Path) -> None:
    """Write the reference as JSON, one epoch per line.

    Raises:
        ValueError: the file exists and is not a reference, or its name does not end in .json.
    """
    if path.suffix != ".json":
        raise ValueError(f"write={path}: a reference is JSON: choose a name that ends in .json")
    if path.exists():
        read_reference(path)  # never overwrite any other file
    head = {"format": FORMAT, **{key: getattr(reference, key) for key in _HEAD}}
    parts = [f" {json.dumps(key)}: {_indented(value)}" for key, value in head.items()]
    for key, epochs in (("train", reference.losses), ("val", reference.figures)):
        rows = [{"epoch": epoch, **{k: _rounded(v) for k, v in columns.items()}} for epoch, columns in epochs.items()]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        parts.append(f' "{key}": [\n{lines}\n ]' if rows else f' "{key}": []')
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _indented(value: Any) -> str:
    """Mappings with one key per line, everything else in one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n }"


def _rounded(spread: Spread) -> dict[str, float]:
    return {"mean": _digits(spread.mean), "min": _digits(spread.low), "max": _digits(spread.high)}


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def read_reference(path: Path) -> Reference:
    """The inverse of `write_reference`.

    Raises:
        ValueError: there is no such file, or it is not a reference.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {found}: a reference is a JSON file; {_HOW}")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error!s:.100}): truncated? {_HOW}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a reference curve (format {FORMAT!r}): {_HOW}")
    try:
        reference = _reference_from_json(content, str(path))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is a corrupt reference curve ({error!r:.100}): {_HOW}") from error
    return reference


def _reference_from_json(content: Mapping[str, Any], name: str) -> Reference:
    head = {key: read(content[key]) for key, read in _HEAD.items()}
    reference = Reference(name=name, **head, losses=_columns(content["train"]), figures=_columns(content["val"]))
    if list(reference.losses) != list(range(1, len(reference.losses) + 1)) or not reference.losses:
        raise ValueError("its epochs do not count up from 1")
    if not all("loss" in columns for columns in reference.losses.values()):
        raise ValueError("an epoch has no loss")
    if min(spread.low for columns in reference.losses.values() for spread in columns.values()) <= 0:
        raise ValueError("a loss is not above 0")
    if min(reference.images_per_epoch, reference.steps_per_epoch, len(reference.seeds)) < 1:
        raise ValueError("no steps, images or seeds")
    return reference


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Spread]]:
    found = {}
    for row in rows:
        columns = {key: Spread(*(float(value[k]) for k in ("mean", "min", "max"))) for key, value in row.items()
                   if key != "epoch"}  # fmt: skip
        if not all(math.isfinite(v) for spread in columns.values() for v in spread):
            raise ValueError("a number is not finite")
        if not all(spread.low <= spread.mean <= spread.high for spread in columns.values()):
            raise ValueError("a mean does not lie between its min and max")
        found[int(row["epoch"])] = columns
    if len(found) < len(rows):
        raise ValueError("an epoch occurs twice")
    return found
