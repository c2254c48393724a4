"""The text of `--help`, built from the commands' docstrings and conf/ without importing any command."""

import ast
import difflib
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from .keys import CONF, GROUPS, Key, choices_of, groups_of, keys_of, keys_of_command
from .listed import LISTED, SECTIONS
from .schema import CONFIGS, ScheduleConfig

TOOLS = CONF.parent / "tools"
INDENT = 26


def title(name: str) -> str:
    """The command's name as typed: `check-data`."""
    return name.replace("_", "-")


def docstring(name: str) -> list[str]:
    """The paragraphs of a command's docstring: a one-line summary, three example lines, and the rest."""
    text = ast.get_docstring(ast.parse((TOOLS / f"{name}.py").read_text())) or ""
    return [*text.split("\n\n", 2), "", ""][:3]


def usage() -> str:
    """The list of commands."""
    width = max(map(len, CONFIGS)) + 2
    parts = ["usage: pocketvision COMMAND [KEY=VALUE ...]"]
    for section in SECTIONS:
        names = [name for name in CONFIGS if LISTED[name].section == section]
        lines = [f"  {title(name):<{width}}{docstring(name)[0].rstrip('.')}" for name in names]
        if section == SECTIONS[-1]:
            lines.append(f"  {'completion':<{width}}Print a completion script for bash, zsh or fish")
        parts.append("\n".join([section, *lines]))
    parts.append("pocketvision COMMAND --help lists a command's keys. To try it without any download:\n"
                 "  pocketvision train experiment=demo_detection")  # fmt: skip
    return "\n\n".join(parts)


def nearest(name: str) -> str:
    """`; did you mean ...?` for an unknown command, or an empty string."""
    near = difflib.get_close_matches(name, [title(known) for known in CONFIGS], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def asked(name: str, arguments: Sequence[str]) -> str | None:
    """The help of a command if its arguments ask for it: `--help`, `-h` or `--help all`."""
    if not {"-h", "--help"} & set(arguments):
        return None
    return command_help(name, everything="all" in arguments)


def command_help(name: str, *, everything: bool = False) -> str:
    """Summary, examples, common keys (or all of them), groups and their choices, and details."""
    about, use, more = docstring(name)
    groups = groups_of(name)
    keys = {key.name: key for key in keys_of_command(name)}
    parts = [about, textwrap.indent(use, "  ")]
    if everything:
        own = vars(CONFIGS[name])["__annotations__"]
        parts += _sections(dict(sorted(keys.items(), key=lambda item: item[0] not in own)), groups)
    else:
        rows = [_group_row(k, groups[k], keys.get(k)) if k in groups else _row(keys[k]) for k in LISTED[name].often]
        parts.append("\n".join(["Common keys and their defaults:", *rows]))
    if groups:
        parts.append("\n".join(["Groups (GROUP=CHOICE; files in conf/):", *map(_choices, groups)]))
    parts += [more] if more else []
    ends = [] if everything else [f"pocketvision {title(name)} --help all lists all {len(keys)} keys."]
    ends += ["--cfg job prints the resolved configuration.", "Write a list as [a,b] and none as null."]
    parts.append("\n".join(ends))
    return "\n\n".join(parts)


def _sections(keys: dict[str, Key], groups: dict[str, str]) -> list[str]:
    """All keys, under the headings from schema.py."""
    found: dict[str, list[str]] = {}
    for key in keys.values():
        if key.name not in groups:
            found.setdefault(key.section or "keys", []).append(_row(key))
    if "schedule" in groups:
        found["schedule"] = [_row(key, prefix="schedule.") for key in keys_of(ScheduleConfig)]
    if groups:
        found["groups"] = [_group_row(group, choice, keys.get(group)) for group, choice in groups.items()]
    return ["\n".join([f"{section}:", *rows]) for section, rows in found.items()]


def _row(key: Key, *, prefix: str = "") -> str:
    about = key.about if not key.choices or all(c in key.about for c in key.choices) else f"{key.kind}. {key.about}"
    return _columns(f"{prefix}{key.name}={key.default.replace(', ', ',')}", about)


def _group_row(group: str, choice: str, key: Key | None) -> str:
    about = f"{GROUPS[group]} {key.about if key else ''}".rstrip()
    return _columns(f"{group}={choice or 'CHOICE'}", about)


def _choices(group: str) -> str:
    folders: dict[str, list[str]] = {}
    for choice in choices_of(group):
        path = Path(choice)
        folders.setdefault("" if path.parent == Path() else f"/{path.parent}", []).append(path.name)
    return "\n".join(_columns(f"{group}{folder}", ", ".join(names)) for folder, names in folders.items())


def _columns(left: str, right: str) -> str:
    width, indent = min(shutil.get_terminal_size((100, 24)).columns, 120), " " * (INDENT + 2)
    text = textwrap.fill(right, max(width, INDENT + 42), initial_indent=indent, subsequent_indent=indent,
                         break_on_hyphens=False)  # fmt: skip
    if len(left) > INDENT - 2:
        return f"  {left}\n{text}".rstrip()
    return f"  {left:<{INDENT}}{text.removeprefix(indent)}".rstrip()
