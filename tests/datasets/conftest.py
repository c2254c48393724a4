"""The scripts beside the tests, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def memory() -> ModuleType:
    return _script("memory")


@pytest.fixture(scope="session")
def mutations() -> ModuleType:
    return _script("mutations")
