"""Two processes under torchrun: they agree with one, stop together, and name the one that died."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import disturb
import pytest
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes under /proc"),
]
SMALL = ("experiment=demo_detection", "data.input_size=[64,64]", "data.num_train=32", "data.num_val=3", "batch_size=4",
         "eval_batch_size=2", "backbone.width=0.35", "threads=1", "device=cpu", "workers=0", "log_every=2",
         "save_every=2")  # fmt: skip
ENDLESS = (*SMALL, "epochs=1000", "eval_every=1000")
FROZEN = (*SMALL, "batch_size=16", "batch_norm=frozen", "epochs=4", "log_every=1", "eval_every=4",
          "optimizer.lr=0.001", "keep_last=2")  # fmt: skip


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


def step(folder: Path) -> int:
    return load_checkpoint(folder / "checkpoints/last.pt")["progress"]["step"]


def finished(folder: Path, overrides: Sequence[str], *, ranks: int = 2) -> str:
    """Train to the end; what was printed."""
    with disturb.training(overrides, folder, ranks=ranks) as started:
        assert started.process.wait() == 0, started.complaint()
    return started.log.read_text()


def wait_for_training(started: disturb.Started) -> None:
    """Until this process has saved a step."""
    begun = time.time()
    while not any(path.stat().st_mtime > begun for path in started.folder.glob("checkpoints/last.pt")):
        assert started.wait(0.02) is None, started.complaint()


@pytest.mark.parametrize("way", ["SIGTERM", pytest.param("Ctrl-C", marks=pytest.mark.by_hand)])
def test_a_signal_stops_all_ranks_at_the_same_step(way: str, tmp_path: Path) -> None:
    with disturb.training(ENDLESS, tmp_path / "x", ranks=2) as started:
        wait_for_training(started)
        disturb.end(started, way, random.Random(0))
    told = re.search(rf"stopped by {way} at step (\d+); saved", started.log.read_text())
    assert told, started.complaint()
    assert int(told[1]) == step(tmp_path / "x")
    assert started.log.read_text().count("stopped by") == 1  # not from every rank


def test_a_rank_that_dies_is_named_first(tmp_path: Path) -> None:
    """tests/tools/resume starts such a run again."""
    with disturb.training(ENDLESS, tmp_path / "x", ranks=2) as started:
        wait_for_training(started)
        os.kill(started.ranks()[1], signal.SIGKILL)
        assert started.process.wait(20) != 0
    text = started.log.read_text()
    told = re.search(r"rank 1 \(process \d+\) ended\. .* killed.* Rank 0 stops as well", text)
    assert told, started.complaint()
    assert "Traceback" not in text[: told.start()]
    assert "failed (exitcode" not in text[: told.start()]  # torchrun's own


def test_a_rank_that_hangs_ends_the_others_within_the_timeout(tmp_path: Path) -> None:
    with disturb.training([*ENDLESS, "timeout_minutes=0.05"], tmp_path / "x", ranks=2) as started:
        wait_for_training(started)
        first, second = started.ranks()
        os.kill(second, signal.SIGSTOP)
        begun = time.monotonic()
        while disturb.is_running(first) and time.monotonic() < begun + 20:
            time.sleep(0.1)
        os.kill(second, signal.SIGKILL)  # as torchrun does after half a minute
        assert started.process.wait(20) != 0
    assert "another rank does not respond" in started.log.read_text(), started.complaint()


def test_an_error_of_one_rank_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shapes(compose("output=made", "num_train=8", "num_val=2", config_name="prepare"))
    picture = sorted(Path("made/train2017").iterdir())[0]
    picture.write_bytes(picture.read_bytes()[:200])
    options = [o for o in SMALL if not o.startswith(("experiment", "data.num"))]
    overrides = ["experiment=small_detection", "data=coco", f"data.root={tmp_path}/made", *options]
    with disturb.training(overrides, tmp_path / "x", ranks=2) as started:
        assert started.process.wait(60) != 0
    text = started.log.read_text()
    cause, told = (
        text.index(f"{picture.name} cannot be decoded"),
        re.search(r"rank [01] \(process \d+\) ended\. If", text),
    )
    assert told is None or cause < told.start()  # the other rank may have read the same picture
    assert "Traceback" not in text[:cause]


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of the same training by one process and by two. Three images in batches of two are evaluated.

    Frozen batch norm: then no image's loss depends on which others are in the same pass.
    """
    folder = tmp_path_factory.mktemp("ranks")
    train(compose(*FROZEN, f"run_dir={folder}/1"))
    assert "on cpu x 2" in finished(folder / "2", FROZEN)
    return folder / "1", folder / "2"


def test_one_process_of_sixteen_and_two_of_eight_have_the_same_losses(one_and_two: tuple[Path, Path]) -> None:
    for kind in ("train", "val"):
        one, two = (rows(folder, kind) for folder in one_and_two)
        assert len(one) == len(two) == (8 if kind == "train" else 1)
        for before, after in zip(one, two, strict=True):
            for key in ("loss_class", "loss_box"):
                assert after[key] == pytest.approx(before[key], rel=2e-5)
    losses = [row["loss"] for row in rows(one_and_two[0], "train")]
    assert max(losses) - min(losses) > 1e-2 * losses[0]  # they moved


def test_evaluation_counts_every_image_once(one_and_two: tuple[Path, Path]) -> None:
    """One rank gets more images than the other."""
    alone = evaluate(compose(f"run={one_and_two[1]}", "checkpoint=last", "workers=0", config_name="evaluate"))
    last = rows(one_and_two[1], "val")[-1]
    for key in ("AP", "AR100", "loss"):
        assert last[key] == pytest.approx(alone[key], abs=1e-4)


def test_another_number_of_ranks_is_refused_or_accepted(one_and_two: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(one_and_two[1], tmp_path / "x"))
    (folder / "checkpoints/last.pt").unlink()  # the one before it is used
    alone = [*FROZEN, f"run_dir={folder}"]
    with pytest.raises(ValueError, match=r"started with 2 processes, now there is 1 .*accept_changes=true"):
        train(compose(*alone))
    assert train(compose(*alone, "accept_changes=true"))
    assert step(folder) == step(one_and_two[1]) == 8
