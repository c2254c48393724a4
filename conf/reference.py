"""docs/configuration.md, made of conf/: every key with its type, its default and what schema.py says of it.

python -m pocketvision.conf.reference docs/configuration.md
"""

import ast
import inspect
import io
import json
import sys
import tokenize
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from . import schema

CONF = Path(schema.__file__).parent
GROUPS = {
    "backbone": "The trunk. Every head goes on every backbone.",
    "model": "Network, criterion, postprocess and metric of a task.",
    "model/criterion": "A detector's loss and how it matches anchors to boxes; `model` chooses its reference's.",
    "data": "Where samples come from, and at what size.",
    "augment": "What training does to a sample.",
    "optimizer": "The optimizer and its constants.",
    "schedule": "How the learning rate moves; all keys of `schedule` in one place are those of `ScheduleConfig` below.",
    "mode": "How a command runs.",
}
INTRO = """# Configuration reference

Made of `conf/` by `python -m pocketvision.conf.reference docs/configuration.md`; a test keeps it true.

`KEY=VALUE` on the command line sets any key, `GROUP=CHOICE` picks a file of a group, `experiment=NAME` sets many of
both; the command line wins over the experiment. An unknown key, a value of the wrong type and a contradiction are
errors before anything starts. `pocketvision COMMAND --help` prints the present values.
"""


def reference() -> str:
    """The whole page."""
    shared = {field.name for field in fields(schema.TrainConfig)}
    parts = [INTRO, "## Keys by command\n"]
    for name, config in schema.CONFIGS.items():
        own = [f for f in fields(config) if config is schema.TrainConfig or not _inherited(f, config, shared)]
        more = "" if config is schema.TrainConfig or not shared <= _names(config) else " All keys of `train`, and:"
        parts.append(f"### {name.replace('_', '-')}\n\n{inspect.getdoc(config)}{more}\n\n{_table(config, own)}\n")
    parts.append(f"### schedule\n\n{_table(schema.ScheduleConfig, list(fields(schema.ScheduleConfig)))}\n")
    parts.append("## Choices of the groups\n")
    parts += [_group(name, about) for name, about in GROUPS.items()]
    parts.append(_experiments())
    return "\n".join(parts)


def _names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def _inherited(field: Field[Any], config: type, shared: set[str]) -> bool:
    """Whether it is a key of train as it stands there."""
    return issubclass(config, schema.TrainConfig) and field.name in shared and field.name not in vars(config)


def _table(config: type, keys: list[Field[Any]]) -> str:
    said = _comments(config)
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    rows += [
        f"| `{f.name}` | {_type(f.type)} | {_default(f)} | {_cell(said.get(f.name) or _said_of(f.type))} |"
        for f in keys
    ]
    return "\n".join(rows)


def _said_of(kind: Any) -> str:
    """An enumeration's own docstring, and what stands behind its members."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)) or not kind.__doc__:
        return ""
    members = [f"{name}: {text}" for name, text in _comments(kind).items() if text]
    return " ".join([inspect.cleandoc(kind.__doc__).replace("\n", " "), "; ".join(members)]).strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " \\| ".join(member.name for member in kind)
    if isinstance(kind, UnionType):
        return " \\| ".join("null" if part is type(None) else _type(part) for part in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "mapping"
    return {int: "int", float: "float", bool: "bool", str: "text"}.get(kind, "group" if kind is Any else "mapping")


def _default(field: Field[Any]) -> str:
    if field.default is not NO_DEFAULT:
        value = field.default
    elif field.default_factory is not NO_DEFAULT and field.default_factory not in (list, dict):
        value = field.default_factory()
    else:
        value = field.default_factory() if field.default_factory is not NO_DEFAULT else None
    if value == schema.MISSING:
        return "to be given"
    if isinstance(value, schema.ScheduleConfig):
        return "see schedule"
    if isinstance(value, Enum):
        return f"`{value.name}`"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


def _comments(config: type) -> dict[str, str]:
    """What stands behind each key of a dataclass and its bases, or each member of an enumeration, in their source."""
    said: dict[str, str] = {}
    for base in reversed([c for c in config.__mro__ if c.__module__ == schema.__name__]):
        source = inspect.getsource(base)
        comments: dict[int, str] = {}
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string.lstrip("# ")
        lines = source.splitlines()
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            target = (
                node.target
                if isinstance(node, ast.AnnAssign)
                else node.targets[0]
                if isinstance(node, ast.Assign)
                else None
            )
            if isinstance(target, ast.Name):
                found = [comments[n] for n in range(node.lineno, (node.end_lineno or 0) + 1) if n in comments]
                text = " ".join(c for c in found if not lines[node.lineno - 1].lstrip().startswith("#"))
                said[target.id] = text or said.get(target.id, "")
    return said


def _group(name: str, about: str) -> str:
    parts = [f"### {name}\n\n{about}\n"]
    for path in sorted((CONF / name).glob("*.yaml")):
        parts.append(f"`{name}={path.stem}`\n\n```yaml\n{path.read_text().strip()}\n```\n")
    return "\n".join(parts)


def _experiments() -> str:
    rows = ["### experiment\n", "| | |", "|---|---|"]
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        rows.append(f"| `experiment={name}` | {_cell(_header(path.read_text()))} |")
    return "\n".join(rows) + "\n"


def _header(text: str) -> str:
    """The first sentences of a file's comment: its lines up to one that ends with a full stop."""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    end = next((i for i, line in enumerate(lines) if line.endswith((".", ":"))), len(lines) - 1)
    return " ".join(lines[: end + 1])


def main() -> None:
    """Write the page to the path given, or print it."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference())
    else:
        print(reference())


if __name__ == "__main__":
    main()
