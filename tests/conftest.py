"""Fixtures every test folder shares."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

# Tests run side by side (pytest -n): threads of one would only wait for those of another.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs; tests that need it are skipped where POCKETVISION_DATA does not name one."""
    root = os.environ.get("POCKETVISION_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real photographs: set POCKETVISION_DATA to the folder that holds coco_mini, bccd, camvid")
    return Path(root)


@pytest.fixture(scope="session")
def tf_rule() -> ModuleType:
    """The rule by which names become weights and pictures (tests/assets/tf/rule.py)."""
    spec = importlib.util.spec_from_file_location("tf_rule", Path(__file__).parent / "assets" / "tf" / "rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
