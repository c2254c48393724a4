"""A configuration as plain or typed values."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from ...conf.limits import check, check_ranges
from ...conf.schema import TrainConfig

Settings = TypeVar("Settings")


def settings_of(config: DictConfig, kind: type[Settings]) -> Settings:
    """The keys of `kind` as a typed object. The open groups (`model`, `data`, ...) stay DictConfigs.

    Raises:
        ValueError: a value is out of range.
    """
    values = {field.name: _plain(config[field.name], is_open=field.type is Any) for field in fields(cast(Any, kind))}
    check_ranges(values)
    settings = kind(**values)
    if type(settings) is TrainConfig:  # commands that only add keys to training's do not use most of these
        check(settings)
    return settings


def _plain(value: Any, *, is_open: bool) -> Any:
    is_group = is_open and isinstance(value, DictConfig)
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) and not is_group else value


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration's values by dotted key; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        items = {}
        for key, item in value.items():
            items |= flat(item, f"{prefix}.{key}" if prefix else str(key))
        return items
    return {prefix: value}


def missing_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Keys whose value is still `???`, in the order of the configuration."""
    values = flat(OmegaConf.to_container(config, resolve=False), prefix)
    return [key for key, value in values.items() if value == "???"]
