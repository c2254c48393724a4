"""Real runs, killed at random instants: what they end with is what an undisturbed run ends with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import disturb
import ends
import pytest
import torch
from ends import differences, kill_and_compare
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.train import train

SMALL = ("data.input_size=[64,64]", "batch_size=4", "threads=1", "eval_batch_size=4", "backbone.width=0.35",
         "log_every=3", "save_every=2", "device=cpu")  # fmt: skip
SCENES = ("data.num_train=32", "data.num_val=4")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes under /proc")


# make test kills one process with its loaders, and two ranks with theirs; the others vary what a step computes, which
# test_train resumes within one process.
@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ranks", "kills", "options"),
    [
        ("detection", 1, 3, ("workers=2", "ema_decay=0.9", "accumulate=2")),
        ("segmentation", 2, 2, ("workers=2", "model=raspp", "model.network.dropout=0.5", "batch_size=8")),
        pytest.param("segmentation", 1, 3, ("workers=0", "precision=bf16", "ema_decay=0.9", "accumulate=2"),
                     marks=pytest.mark.by_hand),
        pytest.param("segmentation", 1, 3, ("workers=0", "model=raspp", "model.network.dropout=0.5"),
                     marks=pytest.mark.by_hand),
        pytest.param("detection", 3, 4, ("workers=0", "ema_decay=0.9", "batch_size=6"), marks=pytest.mark.by_hand),
    ],
)  # fmt: skip
def test_killed_runs_end_as_if_nothing_had_happened(
    kind: str, ranks: int, kills: int, options: tuple[str, ...], tmp_path: Path, asked: Any
) -> None:
    overrides = (f"experiment=demo_{kind}", *SMALL, *SCENES, "epochs=2", *options)
    kill_and_compare(overrides, tmp_path / "runs", kills=asked.kills or kills, ranks=ranks)


@needs_proc
@pytest.mark.slow
def test_a_configuration_of_your_own_ends_as_if_nothing_had_happened(tmp_path: Path, asked: Any) -> None:
    """`pytest tests/tools/resume --train "experiment=..." --kills 20 --ranks 2`."""
    if not asked.train:
        pytest.skip('kills a training of your own with --train "experiment=NAME KEY=VALUE ..."')
    kill_and_compare(asked.train, tmp_path / "runs", kills=asked.kills or 10, ranks=asked.ranks)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(compose("experiment=demo_detection", *SMALL, *SCENES, "epochs=1", "workers=0", f"run_dir={folder}"))
    return folder


def one_bit_of_a_weight(checkpoint: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    weight = checkpoint["model"]["backbone.stem.conv.weight"]
    weight.view(torch.int32)[0, 0, 0, 0] ^= 1


def one_bit_of_momentum(checkpoint: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    checkpoint["optimizer"]["state"][3]["exp_avg"].view(torch.int32)[0] ^= 1


def one_row_less(checkpoint: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    del rows[-1]


def a_loss(checkpoint: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    rows[0]["loss"] += 1e-6


def times(checkpoint: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    rows[0]["images_per_second"] += 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (times, []),
        (one_bit_of_a_weight, ["model.backbone.stem.conv.weight"]),
        (one_bit_of_momentum, ["optimizer.state.3.exp_avg"]),
        (one_row_less, ["4 and 3 rows in metrics.jsonl"]),
        (a_loss, ["row 1 of metrics.jsonl"]),
    ],
)
def test_every_difference_is_found(change: Callable[..., None], found: list[str], run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(run / "checkpoints/last.pt")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    change(checkpoint, rows)
    save_checkpoint(tmp_path / "checkpoints/last.pt", checkpoint)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert differences(run, tmp_path) == found


@needs_proc
def test_kills_come_earlier_once_runs_have_become_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The undisturbed run took 100 s on a busy machine, those to be killed take 25."""
    instants: list[float] = []

    def killed_in_time(_overrides: object, _run: object, _ranks: object, seconds: float, *_: object) -> bool:
        assert len(instants) < 50, "trains again and again without a kill"
        instants.append(seconds)
        return seconds < 25

    monkeypatch.setattr(ends, "_undisturbed", lambda *_: (50.0, 100.0))
    monkeypatch.setattr(ends, "_disturb", killed_in_time)
    for name, found in (("_finish", None), ("differences", []), ("_rows", [])):
        monkeypatch.setattr(ends, name, lambda *_, found=found: found)
    kill_and_compare(("experiment=demo_detection", "device=cpu"), tmp_path / "x", kills=4)
    assert sum(seconds < 25 for seconds in instants) == 4


@needs_proc
@pytest.mark.slow
def test_an_error_in_a_loader_process_ends_the_run(tmp_path: Path) -> None:
    write_shapes(compose(f"output={tmp_path}/made", "num_train=8", "num_val=4", config_name="prepare"))
    picture = next((tmp_path / "made/train2017").iterdir())
    picture.write_bytes(picture.read_bytes()[:200])
    options = ("experiment=small_detection", "data=coco", f"data.root={tmp_path}/made", *SMALL, "workers=2")
    with disturb.training(options, tmp_path / "x") as started:
        assert started.wait(60) == 2
    assert f"{picture.name} cannot be decoded" in started.complaint()


@needs_proc
@pytest.mark.slow
def test_a_second_process_does_not_train_in_the_same_folder(tmp_path: Path) -> None:
    options = ("experiment=demo_detection", *SMALL, *SCENES, "workers=0", "epochs=50", "eval_every=50")
    with disturb.training(options, tmp_path / "x") as first:
        while not (tmp_path / "x/checkpoints/last.pt").exists():
            assert first.wait(0.02) is None
        with disturb.training(options, tmp_path / "x") as second:
            assert second.process.wait() == 2
        first.process.terminate()
        assert first.process.wait() == 143
    assert "another process is training in" in first.log.read_text()
    assert "Run the same command again to resume" in first.log.read_text()
