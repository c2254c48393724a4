"""`pocketvision compare` with curve= and write=: what it reads of runs, the reference, its words and exit status."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from pocketvision.tools.compare import main
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.reference import read_reference, summarise, write_reference
from pocketvision.tools.engine.state import save_checkpoint

FALLING = (3.3, 1.6, 1.36, 1.25, 1.18, 1.14)
SEEDS = [(3.306, 1.605, 1.360, 1.256, 1.180, 1.141), (3.298, 1.566, 1.318, 1.220, 1.151, 1.116),
         (3.350, 1.573, 1.328, 1.230, 1.167, 1.139)]  # fmt: skip


@pytest.fixture(autouse=True)
def own_arguments(in_tmp_path: Path, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands set up the log of their process and its arguments."""
    monkeypatch.setattr(sys, "argv", ["pocketvision"])


def write_run(
    name: str,
    losses: Sequence[float | None] = FALLING,
    *,
    seed: int = 0,
    steps: int = 20,
    figures: dict[int, dict[str, float]] | None = None,
    classes: Sequence[str] | None = None,
    **settings: Any,
) -> str:
    """A run folder as training leaves it, with the loss in two rows and two parts."""
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    task = settings.pop("task", "detection")
    config = {"name": name, "seed": seed, "epochs": 6, "batch_size": 16, "log_every": 15, "workers": 3, **settings}
    config["model"] = {"task": task, "criterion": {"alpha": 0.75}, **settings.pop("model", {})}
    config["data"] = {"root": f"/data/{name}", "num_train": 16 * steps, "train": {"length": 5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows: list[dict[str, Any]] = []
    for epoch, loss in enumerate(losses, 1):
        for step in (steps * epoch - 5, steps * epoch):
            parts = dict.fromkeys(("loss", "loss_class", "loss_box"), loss) if loss else {"loss": loss}
            rows.append({"kind": "train", "step": step, **parts, "lr": 0.1, "epoch": epoch})
        if epoch in (figures or {}):
            rows.append({"kind": "val", "step": steps * epoch, **(figures or {})[epoch], "loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if classes is not None:
        write_checkpoint(folder, classes, epoch=len(losses))
    return f"runs/{name}"


def write_checkpoint(folder: Path, classes: Sequence[str], *, epoch: int, epochs: int = 6, data: str = "1234") -> None:
    labels = [{"slot": slot, "name": name, "source_id": slot} for slot, name in enumerate(classes, 1)]
    content = {
        "labels": {"num_classes": len(classes), "labels": labels},
        "progress": {"epoch": epoch},
        "epochs": epochs,
        "versions": {"pocketvision": "0.1.0", "torch": "2.9"},
        "data": {"train": data},
    }
    save_checkpoint(folder / "checkpoints" / "last.pt", content)


def command(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_run_is_read_as_far_as_it_is() -> None:
    figures = {2: {"AP": 0.1, "AP50": -1.0, "AR1": 0.3}, 3: {"AP": -1.0, "AP50": -1.0}}
    folder = Path(write_run("x", FALLING[:3], figures=figures, classes=["cat", "dog"]))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 75, "loss": 1.0, "epoch": 4}\n')  # in the midst of the fourth
        file.write('{"kind": "train", "step": 76, "lo')  # being written
    found = read_run(folder)
    parts = ("loss", "loss_class", "loss_box")
    assert found.losses == {epoch: dict.fromkeys(parts, loss) for epoch, loss in enumerate(FALLING[:3], 1)}
    assert found.figures == {2: {"AP": 0.1}}
    assert (found.epochs, found.steps_per_epoch, found.images_per_epoch) == (6, 20, 320)
    assert found.classes == ("cat", "dog")
    assert found.settings == {
        "epochs": 6, "batch_size": 16, "model.task": "detection", "model.criterion.alpha": 0.75, "data.num_train": 320
    }  # fmt: skip


def test_a_length_by_the_number_of_images_is_read() -> None:
    """epochs=null in the configuration: the checkpoint has it, or whole batches tell it nearly."""
    folder = Path(write_run("x", FALLING[:3], steps=5, epochs=None))
    assert read_run(folder).epochs == 150
    write_checkpoint(folder, ["cat"], epoch=3, epochs=74)
    assert read_run(folder).epochs == 74


def test_a_checkpoint_that_cannot_be_read_is_done_without() -> None:
    folder = Path(write_run("x", FALLING[:2], classes=["cat"]))
    (folder / "checkpoints" / "last.pt").write_bytes(b"PK cut")
    assert read_run(folder).classes is None
    save_checkpoint(folder / "checkpoints" / "last.pt", {"progress": {"epoch": 2}})
    assert read_run(folder).classes is None


def test_a_run_beside_a_reference(capsys: pytest.CaptureFixture[str]) -> None:
    names = [write_run(f"seed{i}", SEEDS[i], seed=i, classes=["cat", "dog"], figures={3: {"AP": 0.2 + i / 10}})
             for i in range(3)]  # fmt: skip
    assert command(*names, "write=curves/demo.json") == 0
    assert "written: curves/demo.json (seeds 0, 1, 2; 6 epochs; band: 9 % around the mean" in capsys.readouterr().out
    text = Path("curves/demo.json").read_text()
    content = json.loads(text)
    assert content["settings"]["batch_size"] == 16
    assert content["train"][1]["loss"] == {"mean": 1.5813, "min": 1.566, "max": 1.605}
    assert content["val"] == [{"epoch": 3, "AP": {"mean": 0.3, "min": 0.2, "max": 0.4}}]
    assert content["versions"] == {"pocketvision": "0.1.0", "torch": "2.9"}
    assert {key: content[key] for key in ("seeds", "steps_per_epoch", "images_per_epoch", "classes")} == {
        "seeds": [0, 1, 2], "steps_per_epoch": 20, "images_per_epoch": 320, "classes": ["cat", "dog"]
    }  # fmt: skip
    assert max(map(len, text.splitlines())) < 300
    assert command(*names[:2], "write=curves/demo.json") == 0  # a reference may be written anew
    assert command(*names, "write=curves/demo.json") == 0

    sound = write_run("sound", FALLING[:3], seed=7, classes=["cat", "dog"], figures={3: {"AP": 0.31}})
    capsys.readouterr()
    assert command(sound, "curve=curves/demo.json") == 0
    page = capsys.readouterr().out
    assert page.splitlines()[-1] == "sound so far: epochs 1 to 3 of 6 lie within the reference's band"
    assert "      3  1.36      1.335  1.217 to 1.465  within" in page
    assert "      3   AP 0.310 (0.300, 0.200 to 0.400)" in page
    assert cv2.imread("runs/sound/curve.png") is not None

    broken = write_run("broken", (3.3, 1.6, 1.6), classes=["cat", "dog"], batch_size=8, steps=40)
    assert command(broken, "curve=curves/demo.json", "output=elsewhere/x.png") == 1
    assert "settings that differ: batch_size 8 against 16" in capsys.readouterr().out.splitlines()[-1]
    assert cv2.imread("elsewhere/x.png") is not None
    assert not Path(broken, "curve.png").exists()


def test_nothing_is_logged_yet(capsys: pytest.CaptureFixture[str]) -> None:
    known = write_run("known")
    assert command(known, "write=curve.json") == 0
    folder = write_run("new", [])
    assert command(folder, "curve=curve.json") == 0
    assert "too early to judge: no epoch of runs/new is complete" in capsys.readouterr().out


def test_other_classes_and_other_images_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(write_run("known", classes=["cat", "dog"]), "write=curve.json") == 0
    own = write_run("own", (30.0, 20.0), classes=["newt"], steps=10)
    assert command(own, "curve=curve.json") == 0
    page = capsys.readouterr().out
    assert "6 epochs of 160 images against 6 of 320" in page
    assert "different data, or a different loss (classes 1 (newt) against 2 (cat, dog)): neither the level" in page
    assert "too early to judge: with different classes or a different criterion, two" in page
    same = Path(write_run("same", FALLING[:2]))
    write_checkpoint(same, ["cat", "dog"], epoch=2, data="other images")
    assert command(str(same), "curve=curve.json") == 0
    assert "different training data of the same classes" in capsys.readouterr().out


def damaged(change: dict[str, Any]) -> str:
    """A reference with other values, written to damaged.json."""
    write_reference(summarise([read_run(Path(write_run("known")))], name="whole.json"), Path("whole.json"))
    content = json.loads(Path("whole.json").read_text()) | change
    Path("damaged.json").write_text(json.dumps(content))
    return "damaged.json"


TRUNCATED = '{"format": "pocketvision-curve-1", "task'
ROW = {"epoch": 1, "loss": {"mean": 1, "min": 1, "max": 1}}


@pytest.mark.parametrize(
    ("files", "arguments", "told"),
    [
        ({}, ["curve=a.json"], "curve=a.json needs one run folder, got []: pocketvision compare runs/NAME curve="),
        ({}, ["runs/x", "a.json", "curve=b.json"], "curve=b.json needs one run folder, got ['runs/x', 'a.json']"),
        ({}, ["runs/x", "curve=a.json", "write=b.json"], "curve=a.json and write=b.json exclude each other"),
        ({}, ["runs/x", "page=a.html", "output=b.json"], "output=b.json is for a comparison or a run's picture"),
        ({}, ["runs/none", "curve=x.json"], "runs/none does not exist: expected the folder of a training run"),
        ({"a.json": "{}"}, ["a.json", "curve=runs/x"], "a.json is a file: expected the folder of a training run"),
        ({"runs/y/config.yaml": ""}, ["runs/y", "curve=a.json"], "runs/y has no metrics.jsonl: expected the folder"),
        ({"runs/y/a": ""}, ["runs/y", "curve=a.json"], "runs/y has no config.yaml"),
        ({"runs/y/config.yaml": "a: [", "runs/y/metrics.jsonl": ""}, ["runs/y", "curve=a.json"],
         "runs/y/config.yaml is not a run's configuration"),
        ({"runs/y/config.yaml": "model: {task: x}\nepochs: 0\nbatch_size: 1\nlog_every: 1\nseed: 0\n",
          "runs/y/metrics.jsonl": ""}, ["runs/y", "curve=a.json"], "is not a training run's configuration"),
        ({"runs/x/metrics.jsonl": "not\nrows\n[]\n"}, ["runs/x", "curve=a.json"], "runs/x/metrics.jsonl contains no"),
        ({"runs/x/metrics.jsonl": '{"kind": "train", "epoch": 0, "step": 1, "loss": 1}'}, ["runs/x", "curve=a.json"],
         "runs/x/metrics.jsonl contains no rows"),
        ({}, ["runs/x", "curve=none.json"], "none.json does not exist: a reference is a JSON file; pocketvision"),
        ({}, ["runs/x", "curve=runs"], "runs is a folder: a reference is a JSON file"),
        ({"a.json": TRUNCATED}, ["runs/x", "curve=a.json"], "a.json is not valid JSON"),
        ({"a.json": "[" * 100_000}, ["runs/x", "curve=a.json"], "a.json is not valid JSON"),
        ({"a.json": '{"AP": 0.3}'}, ["runs/x", "curve=a.json"], "a.json is not a reference curve"),
        ({"a.json": "[1]"}, ["runs/x", "curve=a.json"], "a.json is not a reference curve"),
        ({}, ["runs/x", "write=a.txt"], "write=a.txt: a reference is JSON"),
        ({"a.json": '{"mine": 1}'}, ["runs/x", "write=a.json"], "a.json is not a reference curve"),
        ({}, ["write=a.json"], "write=a.json needs folders of finished runs"),
        ({}, ["runs/x", "write=a.json", "output=b.png"], "output=b.png is for a comparison or a run's picture"),
        ({}, ["runs/x", "runs/x", "write=a.json"], "runs/x and runs/x both have seed=0"),
        ({}, ["runs/x", "wirte=a.json"], "unknown key 'wirte'; did you mean write?"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    files: dict[str, str], arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("x")
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("pocketvision compare: error: ")
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert {name: Path(name).read_text() for name in files} == files


@pytest.mark.parametrize(
    "change",
    [
        {"train": []}, {"train": [ROW, ROW]}, {"train": [{**ROW, "epoch": 2}]}, {"train": [{"epoch": 1}]},
        {"train": [{"epoch": 1, "loss": {"mean": 0, "min": 0, "max": 0}}]},
        {"train": [{"epoch": 1, "loss": {"mean": 3, "min": 1, "max": 2}}]},
        {"train": [{"epoch": 1, "loss": {"mean": float("nan"), "min": 1, "max": 2}}]},
        {"train": [ROW, {"epoch": 2, "loss_box": ROW["loss"]}]},
        {"train": [{"epoch": 1, "loss": 3}]}, {"train": 5}, {"val": None}, {"settings": [1]}, {"seeds": []},
        {"steps_per_epoch": 0}, {"images_per_epoch": "many"}, {"images_per_epoch": float("inf")}, {"classes": 3},
        {"versions": None},
    ],
)  # fmt: skip
def test_damaged_references_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"damaged\.json is a corrupt reference curve"):
        read_reference(Path(damaged(change)))


def test_another_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(write_run("known"), "write=curve.json") == 0
    assert command(write_run("x", task="segmentation"), "curve=curve.json") == 2
    assert "runs/x is for segmentation and curve.json for detection" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"batch_size": 8}, "differ in more than the seed: batch_size 16 and 8, data.num_train 320 and 640, steps"),
        ({"steps": 40}, "differ in more than the seed: data.num_train 320 and 640, steps_per_epoch 20 and 40"),
        ({"classes": ["newt"]}, "classes null and [\"newt\"]"),
        ({"losses": FALLING[:5]}, "runs/other has 5 of 6 epochs, but a reference needs all of them"),
        ({"losses": (*FALLING[:5], None)}, "runs/other: loss of epoch 6 is not a positive number"),
        ({"losses": (*FALLING[:5], 0.0)}, "runs/other: loss of epoch 6 is not a positive number"),
        ({"seed": 0}, "runs/x and runs/other both have seed=0: a second run with the same seed adds nothing"),
    ],
)  # fmt: skip
def test_what_makes_no_reference(keys: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {"steps": 40} if "batch_size" in keys else {}
    write_run("x")
    write_run("other", **{"seed": 1, **steps, **keys})
    assert command("runs/x", "runs/other", "write=curve.json") == 2
    assert told in capsys.readouterr().err
    assert not Path("curve.json").exists()


def test_real_runs(trained_run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(trained_run("segmentation"), "runs/known")
    assert command("runs/known", "write=curve.json") == 0
    found = read_reference(Path("curve.json"))
    assert found.classes == ("background", "circle", "square", "triangle")
    assert (found.epochs, found.steps_per_epoch, found.images_per_epoch) == (8, 1, 4)
    assert 8 in found.figures
    assert set(found.losses[2]) == {"loss", "loss_pixel", "loss_region"}
    assert command("runs/known", "curve=curve.json") == 0
    assert "sound: epochs 1 to 8 of 8 lie within the reference's band" in capsys.readouterr().out
    rows = Path(folder, "metrics.jsonl").read_text().splitlines(keepends=True)
    Path(folder, "metrics.jsonl").write_text("".join(rows[:3]) + rows[3][:20])
    assert command("runs/known", "curve=curve.json") == 0
    assert "runs/known (3 of 8 epochs) beside curve.json (seed 0; 8 epochs" in capsys.readouterr().out
