"""A run folder's training so far: the loss by epoch, evaluations, and the settings that matter."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...datasets.labels import LabelMap
from ..engine.optim import epochs_for
from ..engine.state import load_latest
from ..runs.config_file import read_config
from ..runs.folder import logged_rows
from ..runs.keys import flat, is_free

FIGURES = {"detection": ("AP", "AP50"), "segmentation": ("mIoU",), "classification": ("top1",)}  # the first one decides
# Besides what a resume may change: keys that differ in every run, or only affect rounding.
_LIMITS = {"epochs": (1, 100_000), "batch_size": (1, 2**31), "log_every": (1, 2**31), "seed": (0, 2**64)}
_OWN_KEYS = ("name", "seed", "channels_last")


class Spread(NamedTuple):
    """Mean, lowest and highest value of several runs, or a band."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A run so far. Only complete epochs count; a loss of None was not finite."""

    name: str  # the folder as it was given
    task: str
    settings: dict[str, Any]  # dotted key -> value, see `matters`
    seed: int
    steps_per_epoch: int | None  # None until the first epoch is complete
    classes: tuple[str, ...] | None  # None until the first checkpoint
    data: str | None  # fingerprint of the training split
    versions: dict[str, str]  # of pocketvision and torch
    losses: dict[int, dict[str, float | None]]  # by epoch, from 1: loss and its terms, means over the steps
    figures: dict[int, dict[str, float]]  # after some epochs: AP, mIoU

    @property
    def epochs(self) -> int:
        """The number of epochs of the whole schedule."""
        return self.settings["epochs"]

    @property
    def images_per_epoch(self) -> int | None:
        """The images trained on: every epoch drops the last, incomplete batch."""
        return self.steps_per_epoch and self.steps_per_epoch * self.settings["batch_size"]


@dataclass(frozen=True)
class _Saved:
    """What only a checkpoint contains, not the rows; nothing without one."""

    epoch: int | None = None  # completed epochs
    epochs: int | None = None  # of the whole schedule
    classes: tuple[str, ...] | None = None
    data: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


def read_run(folder: Path) -> Curve:
    """A run folder's curve, whether the run is finished or not.

    Raises:
        ValueError: it is not the folder of a training run, or its files cannot be read.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {found}: expected the folder of a training run, such as runs/demo_detection")
    for name in ("config.yaml", "metrics.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} has no {name}: expected the folder of a training run (a new run writes its first row at the "
                "end of the first epoch, or after log_every steps)"
            )
    config = _read_config(folder / "config.yaml")
    rows = read_rows(folder / "metrics.jsonl")
    saved = _read_checkpoint(folder)
    whole = whole_epochs(rows, log_every=config["log_every"], saved=saved.epoch)
    steps = next((step // epoch for epoch, step in whole.items()), None)
    if config["epochs"] is None:  # depends on the data; without a checkpoint (mode=debug), estimated from whole batches
        config["epochs"] = saved.epochs or epochs_for((steps or 0) * config["batch_size"])
    return Curve(
        name=str(folder),
        task=config["model"]["task"],
        settings={key: value for key, value in flat(config).items() if matters(key)},
        seed=config["seed"],
        steps_per_epoch=steps,
        classes=saved.classes,
        data=saved.data,
        versions=saved.versions,
        losses={epoch: means for epoch, means in epoch_means(rows).items() if epoch in whole},
        figures=_figures(rows, whole, FIGURES.get(config["model"]["task"], ())),
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_config(path)
    try:
        known = isinstance(config["model"]["task"], str) and all(
            (type(config[key]) is int and least <= config[key] <= most) or (key == "epochs" and config[key] is None)
            for key, (least, most) in _LIMITS.items()
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a run's configuration ({type(error).__name__}): corrupt?") from error
    if not known:
        raise ValueError(f"{path} is not a training run's configuration: epochs, batch_size, seed or task is missing")
    return config


def _read_checkpoint(folder: Path) -> _Saved:
    """The contents of the last checkpoint, if there is one (mode=debug writes none) that can be read."""
    try:
        found = load_latest(folder / "checkpoints" / "last.pt")
        if found is None:
            return _Saved()
        labels = LabelMap.from_json(found[1]["labels"])
        return _Saved(
            epoch=int(found[1]["progress"]["epoch"]),
            epochs=max(1, int(found[1]["epochs"])),
            classes=tuple(labels.names.values()),
            data=str(found[1]["data"]["train"]),
            versions={key: str(found[1]["versions"][key]) for key in ("pocketvision", "torch")},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return _Saved()  # the rows have the loss without it


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of training and of evaluations in a metrics.jsonl.

    Raises:
        ValueError: the file is not empty, but has no such row.
    """

    def is_whole(row: Mapping[str, Any]) -> bool:
        epoch = row.get("epoch")
        return row["kind"] == "val" or (row["kind"] == "train" and type(epoch) is int and epoch > 0 and "loss" in row)

    rows = [row for row in logged_rows(path) if is_whole(row)]
    if path.stat().st_size and not rows:
        raise ValueError(f"{path} contains no rows of a training run: corrupt, or a different file with this name?")
    return rows


def whole_epochs(rows: Iterable[Mapping[str, Any]], *, log_every: int, saved: int | None) -> dict[int, int]:
    """Epoch -> its last step, for the completed epochs. Every epoch ends with a row.

    Args:
        saved: the epochs completed at the last checkpoint; None if there is no checkpoint.
    """
    ends = {row["epoch"]: row["step"] for row in rows if row["kind"] == "train"}
    if not ends:
        return {}
    *before, last = sorted(ends)
    as_long = any(ends[last] * epoch == ends[epoch] * last for epoch in before)
    # A row inside its epoch is at a multiple of log_every, but a row at a multiple may also be the last.
    known = (last <= saved) if saved is not None else ends[last] % log_every != 0
    return {epoch: ends[epoch] for epoch in (*before, *[last] * (as_long or known))}


def epoch_means(rows: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float | None]]:
    """Loss and its terms by epoch: means over the steps; a row has those since the previous row.

    A non-finite row (null) makes its epoch's mean None.
    """
    sums: dict[int, dict[str, list[tuple[float, int]]]] = {}
    step = 0
    for row in rows:
        if row["kind"] != "train":
            continue
        steps, step = max(1, row["step"] - step), row["step"]
        for key, value in row.items():
            if key == "loss" or key.startswith("loss_"):
                number = float(value) if isinstance(value, int | float) else math.nan
                sums.setdefault(row["epoch"], {}).setdefault(key, []).append((number, steps))
    return {epoch: {key: _mean(terms) for key, terms in columns.items()} for epoch, columns in sums.items()}


def _mean(terms: Sequence[tuple[float, int]]) -> float | None:
    mean = sum(value * steps for value, steps in terms) / sum(steps for _, steps in terms)
    return mean if math.isfinite(mean) else None


def _figures(
    rows: Iterable[Mapping[str, Any]], whole: Mapping[int, int], names: Sequence[str]
) -> dict[int, dict[str, float]]:
    """Evaluations by epoch, without those within one (max_steps) and absent metrics."""
    epoch_of = {step: epoch for epoch, step in whole.items()}
    found = {}
    for row in rows:
        if row["kind"] == "val" and row["step"] in epoch_of:
            known = {name: float(row[name]) for name in names if isinstance(row.get(name), int | float)}
            found[epoch_of[row["step"]]] = known
    return {epoch: known for epoch, known in found.items() if known}


def matters(key: str) -> bool:
    """Whether a dotted key of a configuration affects how the loss falls, or the metrics.

    The keys below data.train and data.val repeat those of data.
    """
    parts = key.split(".")
    repeated = parts[0] == "data" and parts[1:2] in (["train"], ["val"]) and parts[-1] != "_target_"
    return not (is_free(key) or parts[0] in _OWN_KEYS or repeated or parts[-1] == "_partial_")
