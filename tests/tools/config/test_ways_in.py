"""The four ways to start a command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(sys.executable).with_name("pocketvision")
TRAIN = ("experiment=demo_detection", "data.num_train=8", "data.num_val=2", "data.input_size=[64,64]", "batch_size=4",
         "backbone.width=0.35", "workers=0", "threads=1", "device=cpu", "epochs=1", "max_steps=2")  # fmt: skip


@pytest.mark.parametrize(
    "start",
    [
        [sys.executable, str(ROOT / "tools" / "train.py"), "--help"],
        [str(SCRIPT), "train", "--help"],
        [sys.executable, "-m", "pocketvision", "train", "--help"],
        pytest.param(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "pocketvision",
             "train", *TRAIN],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["file", "script", "module", "torchrun"],
)  # fmt: skip
def test_every_way_into_train_works(start: list[str], tmp_path: Path) -> None:
    if start[0] == str(SCRIPT) and not SCRIPT.exists():
        pytest.skip("pocketvision is not installed")
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("--help all" if "--help" in start else "done: runs/demo_detection") in done.stdout
    assert "\r" not in done.stdout + done.stderr
