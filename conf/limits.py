"""Range checks that types cannot express."""

from .schema import ScheduleName, TrainConfig


def check(config: TrainConfig) -> None:
    """Raise ValueError for the first value out of range."""
    for key in ("epochs", "batch_size", "accumulate", "log_every", "eval_every", "eval_batch_size", "keep_last"):
        at_least(key, getattr(config, key), 1)
    for key in ("overfit", "max_steps", "save_every", "lr_batch_size", "patience"):
        at_least(key, getattr(config, key), 1)
    for key in ("seed", "threads", "workers"):
        at_least(key, getattr(config, key), 0)
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
