"""The list of commands, filled by the settings classes in conf/schema.py."""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

SECTIONS = ("data", "training", "evaluation", "deployment", "more")  # of the list of commands


class Listed(NamedTuple):
    """Where a command stands in the list of commands, and what its help shows."""

    section: str
    often: list[str]  # the keys and groups to show first
    unread: list[str]  # groups that it only accepts, because experiments set them


CONFIGS: dict[str, type] = {}  # the settings of each command, by the name of its module in tools/
LISTED: dict[str, Listed] = {}
Settings = TypeVar("Settings", bound=type)


def command(section: str, often: str, *, unread: str = "") -> Callable[[Settings], Settings]:
    """Register a settings class for the command of the same name: `CheckDataConfig` for `check-data`."""

    def register(config: Settings) -> Settings:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", config.__name__.removesuffix("Config")).lower()
        CONFIGS[name], LISTED[name] = config, Listed(section, often.split(), unread.split())
        return config

    return register
