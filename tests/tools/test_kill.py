"""Real runs, killed at random instants: what they end with is what an undisturbed run ends with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.tools.build import compose
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.make_shapes import make_shapes

SMALL = ("data.input_size=[64,64]", "batch_size=4", "epochs=2", "threads=1",
         "eval_batch_size=4", "backbone.width=0.35", "log_every=3", "save_every=2", "accumulate=2", "device=cpu",
         "ema_decay=0.9", "eval_every=1")  # fmt: skip
SCENES = ("data.num_train=32", "data.num_val=4")
TIMES = {"images_per_second", "waiting_share", "peak_memory_gb"}


def start(folder: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pocketvision", "train", *SMALL, *overrides, f"name={name}"]
    with open(folder / f"{name}.log", "a") as output:
        return subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def wait_for_a_step(process: subprocess.Popen[str], folder: Path) -> None:
    """Until there is a checkpoint newer than the process, or the process has ended."""
    begun = time.time()
    while process.poll() is None and not any(p.stat().st_mtime > begun for p in folder.glob("checkpoints/last.pt")):
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("detection", ("workers=2",)),
        ("segmentation", ("workers=0", "precision=bf16")),
        ("segmentation", ("workers=0", "model=raspp", "model.network.dropout=0.5")),
    ],
)
def test_killed_runs_end_as_if_nothing_had_happened(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    options = (f"experiment=demo_{kind}", *SCENES, *options)
    assert start(tmp_path, "whole", *options).wait() == 0
    chance = random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = start(tmp_path, "killed", *options)
        wait_for_a_step(process, tmp_path / "runs/killed")
        time.sleep(chance.uniform(0, 0.3))
        os.killpg(process.pid, number)  # loader processes too, as a job's end does
        if process.wait() == 143:
            assert "the same command goes on from there" in (tmp_path / "killed.log").read_text()
    assert start(tmp_path, "killed", *options).wait() == 0, (tmp_path / "killed.log").read_text()[-2000:]

    whole, killed = (load_checkpoint(tmp_path / "runs" / name / "checkpoints/last.pt") for name in ("whole", "killed"))
    for part in ("model", "ema"):
        assert all(torch.equal(whole[part][key], killed[part][key]) for key in whole[part])
    assert rows(tmp_path / "runs/whole") == rows(tmp_path / "runs/killed")
    assert not list((tmp_path / "runs/killed/checkpoints").glob(".*"))


@pytest.mark.slow
def test_an_error_in_a_loader_process_ends_the_run(tmp_path: Path) -> None:
    make_shapes(compose(f"output={tmp_path}/made", "num_train=8", "num_val=4", config_name="make_shapes"))
    picture = next((tmp_path / "made/train2017").iterdir())
    picture.write_bytes(picture.read_bytes()[:200])
    process = start(tmp_path, "x", "experiment=small_detection", "data=coco", "data.root=made", "workers=2",
                    "accumulate=1")  # fmt: skip
    try:
        assert process.wait(timeout=60) == 2
    finally:
        process.kill()
    assert f"{picture.name} does not decode" in (tmp_path / "x.log").read_text().splitlines()[-1]


@pytest.mark.slow
def test_a_second_process_does_not_train_in_the_same_folder(tmp_path: Path) -> None:
    first = start(tmp_path, "x", "experiment=demo_detection", *SCENES, "workers=0", "epochs=50")
    wait_for_a_step(first, tmp_path / "runs/x")
    assert start(tmp_path, "x", "experiment=demo_detection", *SCENES, "workers=0", "epochs=50").wait() == 2
    assert "is being trained by another process" in (tmp_path / "x.log").read_text()
    first.terminate()
    assert first.wait() == 143
