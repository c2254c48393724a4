"""Training as a user starts it: it learns, it resumes exactly, it refuses another configuration, two ranks agree."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.tools.build import compose
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.make_shapes import make_shapes
from pocketvision.tools.train import train

SMALL = ("data.input_size=[64,64]", "data.num_train=16", "data.num_val=4", "batch_size=4", "epochs=2", "workers=0",
         "eval_batch_size=4", "schedule.warmup_epochs=0.5", "backbone.width=0.35")  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*overrides: str, kind: str = "detection", name: str = "x") -> dict[str, float]:
    return train(compose(f"experiment=demo_{kind}", *SMALL, f"name={name}", *overrides))


def weights(name: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(Path("runs", name, "checkpoints", "last.pt"))["model"]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", name, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_a_run_folder_holds_what_is_promised(kind: str) -> None:
    results = run(kind=kind)
    folder = Path("runs/x")
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"):
        assert (folder / name).is_file()
    assert list((folder / "tensorboard").iterdir())
    assert {row["kind"] for row in rows("x")} == {"train", "val"}
    again = evaluate(compose("run=runs/x", "checkpoint=last", "workers=0", config_name="evaluate"))
    written = json.loads((folder / "results.json").read_text())
    headline = "AP" if kind == "detection" else "mIoU"
    assert written[headline] == pytest.approx(again[headline])
    assert again[headline] == pytest.approx(results[headline], abs=1e-3)


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.parametrize("stop", [3, 4])  # in the middle of the first epoch, and at its end
def test_a_resumed_run_is_bit_identical(kind: str, stop: int) -> None:
    options = ("ema_decay=0.99", "accumulate=2", "clip_grad_norm=5.0")
    run(*options, kind=kind, name="whole")
    run(*options, f"max_steps={stop}", kind=kind, name="parts")
    assert load_checkpoint("runs/parts/checkpoints/last.pt")["progress"]["step"] == stop
    run(*options, kind=kind, name="parts")
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert [r for r in rows("whole") if r["kind"] == "val"][-1]["loss"] == rows("parts")[-1]["loss"]


def test_a_finished_run_says_so_and_does_nothing() -> None:
    run("epochs=1")
    before = weights("x")
    assert run("epochs=1") == {}
    assert all(torch.equal(before[key], value) for key, value in weights("x").items())


def test_another_configuration_under_the_same_name_is_refused() -> None:
    run("epochs=1")
    with pytest.raises(ValueError, match=r"optimizer\.lr.*name="):
        run("epochs=1", "optimizer.lr=0.1")
    run("epochs=1", "log_every=7")  # a key that does not touch the numbers


def test_overfit_learns_a_few_scenes_by_heart() -> None:
    results = run(
        "mode=overfit", "overfit=4", "batch_size=4", "epochs=80", "eval_every=80", "data.input_size=[96,96]",
        "backbone.width=0.5", "schedule.warmup_epochs=10", "ema_decay=null", kind="segmentation",
    )  # fmt: skip
    assert results["mIoU"] > 0.65  # untrained: below 0.2


def test_weights_of_another_run_start_a_new_one() -> None:
    run("epochs=1", name="first")
    run("epochs=1", "data.preset=hard", "weights=runs/first/checkpoints/last.pt", name="second")
    with pytest.raises(ValueError, match="do not fit"):
        run("weights=runs/first/checkpoints/last.pt", "backbone.width=0.5", name="third")


@pytest.mark.parametrize("layout", ["coco", "cityscapes"])
def test_both_real_loaders_train_on_what_make_shapes_writes(layout: str) -> None:
    make_shapes(compose("output=made", f"layout={layout}", "num_train=8", "num_val=4", config_name="make_shapes"))
    kind = "detection" if layout == "coco" else "segmentation"
    small = ("data.input_size=[64,64]", "batch_size=4", "epochs=1", "workers=0", "backbone.width=0.35")
    config = compose(f"experiment=small_{kind}", f"data={layout}", "data.root=made", *small, "name=real")
    results = train(config)
    assert ("AP" if kind == "detection" else "mIoU_category") in results
    evaluate(compose("run=runs/real", "workers=0", "pictures=2", config_name="evaluate"))
    assert len(list(Path("runs/real/pictures").iterdir())) == 2


def test_more_images_a_step_than_there_are() -> None:
    with pytest.raises(ValueError, match="lower the batch size"):
        run("batch_size=32")


def test_validation_data_of_other_categories_is_refused() -> None:
    make_shapes(compose("output=made", "num_train=4", "num_val=2", config_name="make_shapes"))
    path = Path("made/annotations/instances_val2017.json")
    content = json.loads(path.read_text())
    first, second = content["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="ids and names have to agree"):
        train(compose("experiment=small_detection", "data=coco", "data.root=made", "batch_size=2", "name=y"))


def test_a_checkpoint_that_does_not_exist_by_that_name() -> None:
    with pytest.raises(ValueError, match="checkpoint=bset"):
        evaluate(compose("run=x", "checkpoint=bset", config_name="evaluate"))


@pytest.mark.slow
def test_two_processes_train_and_evaluate_every_image_once() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533", "-m",
               "pocketvision", "train", "experiment=demo_detection", *SMALL, "name=pair", "device=cpu", "threads=1",
               "data.num_val=1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    last = rows("pair")[-1]
    alone = evaluate(compose("run=runs/pair", "checkpoint=last", "workers=0", config_name="evaluate"))
    for key in ("AP", "AR100", "loss"):
        assert last[key] == pytest.approx(alone[key], abs=1e-4)
