"""Fixtures every test folder shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs; tests that need it are skipped where POCKETVISION_DATA does not name one."""
    root = os.environ.get("POCKETVISION_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real photographs: set POCKETVISION_DATA to the folder that holds coco_mini, bccd, camvid")
    return Path(root)
