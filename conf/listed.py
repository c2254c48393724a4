"""The list of commands, filled by the settings classes in conf/schema.py."""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

SECTIONS = ("data", "training", "evaluation", "deployment", "more")  # of the list of commands


class Listed(NamedTuple):
    """A command's section in the list of commands, and the keys and groups that its help shows first."""

    section: str
    often: tuple[str, ...]


CONFIGS: dict[str, type] = {}  # the settings of each command, by the name of its module in tools/
LISTED: dict[str, Listed] = {}
Settings = TypeVar("Settings", bound=type)


def command(section: str, often: str) -> Callable[[Settings], Settings]:
    """Register a settings class for the command of the same name: `CheckDataConfig` for `check-data`."""

    def register(config: Settings) -> Settings:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", config.__name__.removesuffix("Config")).lower()
        CONFIGS[name], LISTED[name] = config, Listed(section, tuple(often.split()))
        return config

    return register
