"""The ways to start a command; torchrun starts it in tests/tools/engine/test_ranks.py."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(sys.executable).with_name("pocketvision")


@pytest.mark.parametrize(
    "start",
    [
        [sys.executable, str(ROOT / "tools" / "train.py"), "--help"],
        [str(SCRIPT), "train", "--help"],
        [sys.executable, "-m", "pocketvision", "train", "--help"],
    ],
    ids=["file", "script", "module"],
)
def test_every_way_into_train_works(start: list[str], tmp_path: Path) -> None:
    if start[0] == str(SCRIPT) and not SCRIPT.exists():
        pytest.skip("pocketvision is not installed")
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--help all" in done.stdout
