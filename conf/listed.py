"""The list of commands, filled by the settings classes in conf/schema.py."""

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

SECTIONS = ("data", "training", "evaluation", "deployment", "more")  # of the list of commands


class Listed(NamedTuple):
    """Where a command stands in the list of commands, and what its help shows."""

    section: str
    often: list[str]  # the keys and groups to show first
    unread: list[str]  # keys and groups that it only accepts, because experiments set them


CONFIGS: dict[str, type] = {}  # the settings of each command, by the name of its module in tools/
LISTED: dict[str, Listed] = {}
Settings = TypeVar("Settings", bound=type)


def command(section: str, often: str, *, unread: str = "", reads: str | None = None) -> Callable[[Settings], Settings]:
    """Register a settings class for the command of the same name: `CheckDataConfig` for `check-data`.

    Args:
        unread: the groups that it does not read.
        reads: of the keys that it only inherits, those that it reads; None: all. Groups count as read.
    """

    def register(config: Settings) -> Settings:
        inherited = [field.name for base in config.__mro__[1:-1] for field in fields(base) if field.type is not Any]
        idle = [] if reads is None else [key for key in inherited if key not in {*reads.split(), *vars(config)}]
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", config.__name__.removesuffix("Config")).lower()
        CONFIGS[name], LISTED[name] = config, Listed(section, often.split(), [*unread.split(), *idle])
        return config

    return register
