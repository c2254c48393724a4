"""Range checks that types cannot express."""

from collections.abc import Mapping
from typing import Any

from .schema import ScheduleName, TrainConfig

# The least value of every key that takes a whole number, in any command; null stays allowed where it is.
LEAST = {
    **dict.fromkeys(("epochs", "overfit", "max_steps", "batch_size", "accumulate", "lr_batch_size", "patience"), 1),
    **dict.fromkeys(("log_every", "save_every", "keep_last", "eval_every", "eval_batch_size"), 1),
    **dict.fromkeys(("samples", "every", "candidates", "num_photos", "rounds", "repeats", "count", "columns"), 1),
    **dict.fromkeys(("table", "calibration"), 1),
    **dict.fromkeys(("seed", "threads", "workers", "warmup", "epoch", "statistics"), 0),
    **dict.fromkeys(("bootstrap", "pictures", "report_images", "num_train", "num_val", "examples"), 0),
}
SIZES = ("input_size", "window", "stride", "photo_size", "size")  # h, w in pixels
SHARES = ("score_threshold", "min_score")


def ranged() -> list[str]:
    """The keys that `check_ranges` knows."""
    return [*LEAST, *SIZES, *SHARES]


def check_ranges(values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first key of a command out of range."""
    for key, least in LEAST.items():
        if isinstance(value := values.get(key), int):
            at_least(key, value, least)
    for key in SIZES:
        if (size := values.get(key)) is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{key}={[*size]}: expected two positive numbers, [h,w]")
    for key in SHARES:
        if isinstance(value := values.get(key), int | float) and not 0 <= value <= 1:
            raise ValueError(f"{key}={value}: expected a number from 0 to 1")


def check(config: TrainConfig) -> None:
    """Raise ValueError for the first value out of range."""
    if config.cache not in (None, "ram", "disk"):
        raise ValueError(f"cache={config.cache}: expected ram, disk or null")
    if config.cache_folder is not None and config.cache != "disk":
        raise ValueError(f"cache_folder={config.cache_folder} is used only with cache=disk: set cache=disk, too")
    if config.on_bad_sample not in ("raise", "skip"):
        raise ValueError(f"on_bad_sample={config.on_bad_sample}: expected raise or skip")
    if config.weights_reduce not in (None, "importance", "first"):
        raise ValueError(f"weights_reduce={config.weights_reduce}: expected importance, first or null")
    schedule = config.schedule
    if schedule.name in (ScheduleName.step, ScheduleName.exponential) and not 0 < schedule.gamma <= 1:
        raise ValueError(f"schedule.gamma={schedule.gamma}: expected a number above 0 and at most 1")
    if schedule.every_epochs <= 0:
        raise ValueError(f"schedule.every_epochs={schedule.every_epochs}: expected more than 0 epochs")
    if not isinstance(config.lr_factors, dict):
        raise ValueError(f"lr_factors={config.lr_factors}: expected parts and their factors, e.g. {{backbone: 0.1}}")
    for part, factor in config.lr_factors.items():
        if not isinstance(part, str):
            raise ValueError(f"lr_factors: {part}: expected the name of a part, e.g. backbone.stem")
        if not isinstance(factor, int | float):
            raise ValueError(f"lr_factors: {factor} for {part!r}: expected a number")
    if config.timeout_minutes <= 0:
        raise ValueError(f"timeout_minutes={config.timeout_minutes}: expected more than 0")
    if config.ema_decay is not None and not 0 < config.ema_decay < 1:
        raise ValueError(
            f"ema_decay={config.ema_decay}: expected a number between 0 and 1, or null to turn averaging off"
        )


def at_least(key: str, value: int | None, least: int) -> None:
    """Raise ValueError if `value` is below `least`; None passes."""
    if value is not None and value < least:
        raise ValueError(f"{key}={value}: expected {least} or more")
