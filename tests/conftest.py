"""Fixtures every test folder shares."""

import os
from pathlib import Path

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
