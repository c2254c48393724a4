"""The contents of conf/ for help and reference: each dataclass's keys with comments, the groups and their choices."""

import inspect
import json
import re
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from . import schema
from .listed import LISTED

CONF = Path(schema.__file__).parent
GROUPS = {
    "experiment": "A preset: a complete set of settings.",
    "backbone": "The backbone. Every head works with every backbone.",
    "model": "Network, criterion, postprocessing and metric of a task.",
    "model/criterion": "A detector's loss and anchor matching; the default is that of the model's reference.",
    "data": "The dataset (data.root=FOLDER, or the group's own keys) and the input size.",
    "augment": "Augmentation in training.",
    "optimizer": "The optimizer and its constants.",
    "schedule": "The learning rate schedule; its keys are listed under `schedule` above.",
    "quantize": "Numbers of the network in training: none trains in floating point, openvino in eight bits.",
    "public": "Backbone, classes and input size of a published network; chosen automatically by `model`.",
    "mode": "How the command runs.",
}


@dataclass
class Key:
    """One key of a dataclass of conf/schema.py."""

    name: str
    section: str  # the comment line above it and its neighbors
    kind: str
    default: str  # as written on a command line
    about: str
    choices: list[str]


def keys_of(config: type) -> list[Key]:
    """All keys, in order."""
    said: dict[str, tuple[str, str]] = {}
    for base in reversed(config.__mro__):
        for name, (section, text) in _comments().get(base.__name__, {}).items():
            said[name] = section, text or said.get(name, ("", ""))[1]
    defaults = config()
    return [
        Key(
            name=field.name,
            section=said[field.name][0],
            kind="group" if field.name in GROUPS and field.type is Any else _kind(field.type),
            default=_default(getattr(defaults, field.name)),
            about=said[field.name][1] or _said_of(field.type),
            choices=_kind(field.type).split(" | ") if _is_enum(field.type) else [],
        )
        for field in fields(config)
    ]


def keys_of_command(name: str) -> list[Key]:
    """A command's keys, without the groups that it does not read."""
    return [key for key in keys_of(schema.CONFIGS[name]) if key.name not in LISTED[name].unread]


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _said_of(kind: Any) -> str:
    """An enumeration's docstring and the comments of its members."""
    if not _is_enum(kind) or not kind.__doc__:
        return ""
    members = [f"{name}: {text}" for name, (_, text) in _comments()[kind.__name__].items() if text]
    return " ".join([inspect.cleandoc(kind.__doc__).replace("\n", " "), "; ".join(members)]).strip()


def _kind(kind: Any) -> str:
    if _is_enum(kind):
        return " | ".join(member.name for member in kind)
    if isinstance(kind, UnionType):
        return " | ".join("null" if part is type(None) else _kind(part) for part in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_kind(get_args(kind)[0])}"
    return {int: "int", float: "float", bool: "bool", str: "text", Any: "any"}.get(kind, "mapping")


def _default(value: Any) -> str:
    if value == schema.MISSING:
        return "..."
    if isinstance(value, schema.ScheduleConfig):
        return "schedule"
    if isinstance(value, Enum):
        return value.name
    return value if isinstance(value, str) else json.dumps(value)


@cache
def _comments() -> dict[str, dict[str, tuple[str, str]]]:
    """(section, comment) of each key, by class: the comment after it and the lines `#   ...` below it."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    members, name, section = {}, "", ""
    for line in Path(schema.__file__).read_text("utf-8").splitlines():
        if opened := re.match(r"class (\w+)", line):
            members, section = found.setdefault(opened[1], {}), ""
        elif more := re.match(r"    #   +(.*)", line):
            members[name] = section, f"{members[name][1]} {more[1]}"
        elif heading := re.match(r"    # (.*)", line):
            section = heading[1]
        elif key := re.match(r"    (\w+)(?::[^#=]*)? = .*?(?:  # (.*))?$", line):
            name = key[1]
            members[name] = section, key[2] or ""
    return found


# ---- groups ----------------------------------------------------------------------------------------------


def choices_of(group: str) -> list[str]:
    """The choices of a group, followed by those in its folders (`paper/table6/v1`)."""
    folder = CONF / group
    found = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted((name for name in found if f"{group}/{Path(name).parent}" not in GROUPS), key=lambda n: ("/" in n, n))


def groups_of(command: str) -> dict[str, str]:
    """The groups that a command reads and its default choice of each, the groups inside them included."""
    chosen, unread = _defaults(CONF / f"{command}.yaml"), LISTED[command].unread
    return {
        group: chosen.get(group, "") for group in GROUPS if group.partition("/")[0] in chosen and group not in unread
    }


def _defaults(path: Path) -> dict[str, str]:
    """The groups in a file's defaults list, and in those of the files that it includes."""
    chosen: dict[str, str] = {}
    for entry in yaml.safe_load(path.read_text()).get("defaults", []):
        if isinstance(entry, dict):
            chosen |= {group: str(choice or "null") for group, choice in entry.items()}
        elif (included := CONF / f"{entry}.yaml").is_file():
            chosen |= _defaults(included)
    return chosen


def keys_in(group: str) -> list[str]:
    """The top-level keys of a group's files."""
    texts = [path.read_text() for path in sorted((CONF / group).glob("*.yaml"))]
    return sorted({key for text in texts for key in re.findall(r"^(\w+):", text, re.M)} - {"defaults", "_target_"})


def task_of(group: str, choice: str) -> str | None:
    """The task of a model, a data group or an experiment (that of its model), if its file says so."""
    path = CONF / group / f"{choice}.yaml"
    if group == "experiment":
        model = _overridden(path, "model")
        return task_of("model", model) if model else None
    if not path.is_file():
        return None
    content = yaml.safe_load(path.read_text())
    bases = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return content.get("task") or next((task for base in bases if (task := task_of(group, base))), None)


def _overridden(path: Path, group: str) -> str | None:
    """What an experiment, or the one that it extends, chooses of a group."""
    found = None
    for entry in yaml.safe_load(path.read_text()).get("defaults", []) if path.is_file() else []:
        if isinstance(entry, dict):
            found = entry.get(f"override /{group}", found)
        elif entry != "_self_":
            base = CONF / entry.lstrip("/") if entry.startswith("/") else path.parent / entry
            found = _overridden(base.with_suffix(".yaml"), group) or found
    return found
