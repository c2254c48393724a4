"""docs/configuration.md, generated from conf/: every key with its type, default and comment in schema.py.

python -m pocketvision.conf.reference docs/configuration.md
"""

import sys
from dataclasses import fields
from pathlib import Path

from . import schema
from .help import docstring, title
from .keys import CONF, GROUPS, Key, choices_of, keys_of
from .listed import LISTED

INTRO = """# Configuration reference

Generated from `conf/` by `python -m pocketvision.conf.reference docs/configuration.md`; a test keeps it up to date.

`KEY=VALUE` on the command line sets a key, `GROUP=CHOICE` selects a file of a group, and `experiment=NAME` sets many
of both; the command line overrides the experiment. Unknown keys, values of the wrong type and contradictions are
reported before anything starts. `pocketvision COMMAND --help` lists the common keys, `--help all` lists all of them,
and `--cfg job` prints the resolved configuration.
"""


def reference() -> str:
    """The whole page."""
    shared = _names(schema.TrainConfig)
    parts = [INTRO, "## Keys by command\n"]
    for name, config in schema.CONFIGS.items():
        more = "" if config is schema.TrainConfig or not shared <= _names(config) else _inherited(name, shared)
        own = [key for key in keys_of(config) if not more or key.name not in shared or key.name in vars(config)]
        parts.append(f"### {title(name)}\n\n{docstring(name)[0]}{more}\n\n{_table(own)}\n")
    parts.append(f"### schedule\n\n{_table(keys_of(schema.ScheduleConfig))}\n")
    parts.append("## Choices of the groups\n")
    parts += [_group(name, about) for name, about in GROUPS.items() if name != "experiment"]
    parts.append(_experiments())
    return "\n".join(parts)


def _inherited(command: str, shared: set[str]) -> str:
    """What a command does with the keys of train."""
    read = [key for key in schema.TrainConfig.__dataclass_fields__ if key not in LISTED[command].unread]
    own = vars(schema.CONFIGS[command])["__annotations__"]
    keys = ", ".join(f"`{key}`" for key in read if key in shared and key not in own)
    return f" It accepts all keys of `train`, so that experiments compose, and reads {keys}, plus:"


def _names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def _table(keys: list[Key]) -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    rows += [f"| `{key.name}` | {_cell(key.kind)} | {_default(key)} | {_cell(key.about)} |" for key in keys]
    return "\n".join(rows)


def _default(key: Key) -> str:
    return {"...": "required", "schedule": "see schedule"}.get(key.default, f"`{key.default}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _group(name: str, about: str) -> str:
    parts = [f"### {name}\n\n{about}\n"]
    for path in sorted((CONF / name).glob("*.yaml")):
        parts.append(f"`{name}={path.stem}`\n\n```yaml\n{path.read_text().strip()}\n```\n")
    return "\n".join(parts)


def _experiments() -> str:
    rows = ["### experiment\n", "| | |", "|---|---|"]
    for name in choices_of("experiment"):
        header = _header((CONF / "experiment" / f"{name}.yaml").read_text())
        rows.append(f"| `experiment={name}` | {_cell(header)} |")
    return "\n".join(rows) + "\n"


def _header(text: str) -> str:
    """The first sentences of a file's comment: its lines up to the first that ends with a period."""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    end = next((i for i, line in enumerate(lines) if line.endswith((".", ":"))), len(lines) - 1)
    return " ".join(lines[: end + 1])


def main() -> None:
    """Write the page to the given path, or print it."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference())
    else:
        print(reference())


if __name__ == "__main__":
    main()
