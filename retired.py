"""Names from earlier releases: modules stay importable and commands keep working until the next release."""

import importlib
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    f"pocketvision.{old}": f"pocketvision.{new}"
    for old, new in {
        "datasets.crops": "datasets.augmentation.crops",
        "datasets.decode": "datasets.images.decode",
        "tools.build": "tools.config.build",
        "tools.inference": "tools.predicting.load",
    }.items()
}


def current(value: Any) -> Any:
    """A configuration's plain value with retired dotted names replaced."""
    if isinstance(value, dict):
        return {key: current(item) for key, item in value.items()}
    if isinstance(value, list):
        return [current(item) for item in value]
    module, _, name = value.rpartition(".") if isinstance(value, str) else ("", "", "")
    return f"{MODULES[module]}.{name}" if module in MODULES else value


class _Alias(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        new = MODULES[module.__name__]
        warnings.warn(f"{module.__name__} has moved to {new}", DeprecationWarning, stacklevel=2)
        public = {key: value for key, value in vars(importlib.import_module(new)).items() if not key.startswith("_")}
        vars(module).update(public)


def install() -> None:
    """Make the retired modules importable."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.append(_Alias())


# ---- commands --------------------------------------------------------------------------------------------


def current_command(name: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """A command's current name and arguments; for a retired one, a notice on standard error shows the replacement.

    Raises:
        SystemExit: the command no longer exists.
    """
    if name == "check-resume":
        print(
            "pocketvision check-resume is now a test: run pytest tests/tools/resume (see docs/resume.md)",
            file=sys.stderr,
        )
        raise SystemExit(2)
    if name not in _COMMANDS:
        return name, list(arguments)
    name, arguments = _COMMANDS[name](list(arguments))
    print(f"deprecated: use pocketvision {shlex.join([name, *arguments])}", file=sys.stderr)
    return name, arguments


def _report(arguments: list[str]) -> tuple[str, list[str]]:
    renamed = [f"page={a.removeprefix('output=')}" if a.startswith("output=") else a for a in arguments]
    asks = {"-h", "--help"} & {*arguments} or any(a.startswith("page=") for a in renamed)
    return "compare", renamed if asks else [*renamed, "page=report.html"]


def _compare_curve(arguments: list[str]) -> tuple[str, list[str]]:
    """The second path, in `runs=[...]` or without a key, is the reference."""
    if any(a.startswith("write=") for a in arguments):
        return "compare", arguments
    keys = [a for a in arguments if a.startswith(("output=", "-"))]
    rest = [a for a in arguments if a not in keys]
    paths = [path for a in rest for path in (a[6:-1].split(",") if a.startswith("runs=[") else [a])]
    return "compare", [*paths[:1], *(f"curve={path}" for path in paths[1:2]), *paths[2:], *keys]


def _make_shapes(arguments: list[str]) -> tuple[str, list[str]]:
    return "prepare", ["shapes", *arguments]


_COMMANDS = {"report": _report, "compare-curve": _compare_curve, "make-shapes": _make_shapes}
