"""The contents of conf/ for help and reference: each dataclass's keys with comments, the groups and their choices."""

import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from . import schema

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
    places, said = {}, {}
    for base in reversed(config.__mro__):
        for key, (section, text) in _comments(base).items():
            places[key], said[key] = section, text or said.get(key)
    return [
        Key(
            name=f.name,
            section=places[f.name],
            kind=_kind(f.type),
            default=_default(f),
            about=said[f.name] or _said_of(f.type),
            choices=_kind(f.type).split(" | ") if _is_enum(f.type) else [],
        )
        for f in fields(config)
    ]


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _said_of(kind: Any) -> str:
    """An enumeration's docstring and the comments of its members."""
    if not _is_enum(kind) or not kind.__doc__:
        return ""
    members = [f"{name}: {text}" for name, (_, text) in _comments(kind).items() if text]
    return " ".join([inspect.cleandoc(kind.__doc__).replace("\n", " "), "; ".join(members)]).strip()


def _kind(kind: Any) -> str:
    if _is_enum(kind):
        return " | ".join(member.name for member in kind)
    if isinstance(kind, UnionType):
        return " | ".join("null" if part is type(None) else _kind(part) for part in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_kind(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "mapping"
    return {int: "int", float: "float", bool: "bool", str: "text"}.get(kind, "group" if kind is Any else "mapping")


def _default(field: Field[Any]) -> str:
    value = field.default if field.default is not NO_DEFAULT else None
    if field.default_factory is not NO_DEFAULT:
        value = field.default_factory()
    if value == schema.MISSING:
        return "..."
    if isinstance(value, schema.ScheduleConfig):
        return "schedule"
    if isinstance(value, Enum):
        return value.name
    return value if isinstance(value, str) else json.dumps(value)


def _comments(config: type) -> dict[str, tuple[str, str]]:
    """(section, comment) of each key of a class of schema.py, or of each member of an enumeration."""
    return _all_comments().get(config.__name__, {}) if config.__module__ == schema.__name__ else {}


@cache
def _all_comments() -> dict[str, dict[str, tuple[str, str]]]:
    """(section, comment) of each key, by class: the comment after it and the lines `#   ...` below it."""
    source = inspect.getsource(schema)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string[1:] for token in tokens if token.type == tokenize.COMMENT}
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = dict(_comments_in(node, comments, lines))
    return found


def _comments_in(
    node: ast.ClassDef, comments: dict[int, str], lines: list[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    section = ""
    for part in node.body:
        target = part.target if isinstance(part, ast.AnnAssign) else getattr(part, "targets", [None])[0]
        if not isinstance(target, ast.Name):
            continue
        if lines[part.lineno - 2].startswith("    # "):
            above = comments[part.lineno - 1]
            section = section if above.startswith("   ") else above.strip()
        said = [comments[n] for n in range(part.lineno, (part.end_lineno or 0) + 1) if n in comments]
        line = (part.end_lineno or 0) + 1
        while comments.get(line, "").startswith("   "):
            said.append(comments[line])
            line += 1
        yield target.id, (section, " ".join(text.strip() for text in said))


# ---- groups ----------------------------------------------------------------------------------------------


def choices_of(group: str) -> list[str]:
    """The choices of a group, followed by those in its folders (`paper/table6/v1`)."""
    folder = CONF / group
    found = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted((name for name in found if f"{group}/{Path(name).parent}" not in GROUPS), key=lambda n: ("/" in n, n))


def groups_of(command: str) -> dict[str, str]:
    """A command's groups and its default choice of each: those in conf/COMMAND.yaml and the groups inside them."""
    chosen: dict[str, str] = {}
    for entry in yaml.safe_load((CONF / f"{command}.yaml").read_text())["defaults"]:
        if isinstance(entry, dict):
            chosen |= {group: str(choice or "null") for group, choice in entry.items()}
    return {group: chosen.get(group, "") for group in GROUPS if group.partition("/")[0] in chosen}


def keys_in(group: str) -> list[str]:
    """The top-level keys of a group's files."""
    texts = [path.read_text() for path in sorted((CONF / group).glob("*.yaml"))]
    return sorted({key for text in texts for key in re.findall(r"^(\w+):", text, re.M)} - {"defaults", "_target_"})
