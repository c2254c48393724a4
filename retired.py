"""Dotted names of earlier releases: they stay importable, and equal to today's, until the release after this one."""

import importlib
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
    """A configuration's plain value with today's dotted names in it."""
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
        warnings.warn(f"{module.__name__} is {new} now", DeprecationWarning, stacklevel=2)
        public = {key: value for key, value in vars(importlib.import_module(new)).items() if not key.startswith("_")}
        vars(module).update(public)


def install() -> None:
    """Let `import` find the retired modules."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.append(_Alias())
