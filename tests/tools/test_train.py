"""Training as a user starts it: it learns, it resumes exactly, it refuses another configuration."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pocketvision.detection.criterion import DetectionCriterion
from pocketvision.tools.compare import compare
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine import loop, resume
from pocketvision.tools.engine.run import Run
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.reporting.summary import Summary
from pocketvision.tools.train import _check_truth, train

SMALL = ("data.input_size=[64,64]", "data.num_train=16", "data.num_val=4", "batch_size=4", "epochs=2", "workers=0",
         "eval_batch_size=4", "schedule.warmup_epochs=0.5", "backbone.width=0.35")  # fmt: skip


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def run(*overrides: str, kind: str = "detection", name: str = "x") -> dict[str, float]:
    return train(compose(f"experiment=demo_{kind}", *SMALL, f"name={name}", *overrides))


def weights(name: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(Path("runs", name, "checkpoints", "last.pt"))["model"]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", name, "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    run("max_steps=2", f"run_dir={folder}/x")
    return folder / "x"


@pytest.fixture
def stopped(stopped_run: Path, in_tmp_path: Path) -> None:
    """The run x, two steps long."""
    shutil.copytree(stopped_run, "runs/x")


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_a_run_folder_holds_what_is_promised(kind: str, copied_run: Callable[[str], Path]) -> None:
    folder = Path("runs/x")
    folder.parent.mkdir()
    copied_run(kind).rename(folder)
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"):
        assert (folder / name).is_file()
    assert list((folder / "tensorboard").iterdir())
    assert {row["kind"] for row in rows("x")} == {"train", "val"}
    again = evaluate(compose("run=runs/x", "checkpoint=last", "workers=0", "report=true", config_name="evaluate"))
    written = json.loads((folder / "results.json").read_text())
    headline = "AP" if kind == "detection" else "mIoU"
    assert written[headline] == pytest.approx(again[headline])
    assert again[headline] == pytest.approx(rows("x")[-1][headline], abs=1e-3)
    summary = Summary.load(folder / "report")
    assert summary.results[headline] == pytest.approx(again[headline], abs=1e-5)
    assert {row["kind"] for row in summary.training} == {"train", "val"}
    assert summary.config["model.network._target_"].startswith("pocketvision.")
    assert len(summary.gallery) == 2
    compare(compose("runs=[runs/x]", "page=x.html", config_name="compare"))
    assert Path("x.html").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("detection", ()), ("segmentation", ("precision=bf16", "model=raspp", "model.network.dropout=0.5"))],
)
def test_a_resumed_run_is_bit_identical(kind: str, extra: tuple[str, ...]) -> None:
    options = ("ema_decay=0.99", "accumulate=2", "clip_grad_norm=5.0", *extra)
    run(*options, kind=kind, name="whole")
    whole = weights("whole")
    for stop in (3, 4):  # in the middle of the first epoch, and at its end
        parts = f"stopped-{stop}"
        run(*options, f"max_steps={stop}", kind=kind, name=parts)
        assert load_checkpoint(f"runs/{parts}/checkpoints/last.pt")["progress"]["step"] == stop
        run(*options, kind=kind, name=parts)
        assert all(torch.equal(whole[key], value) for key, value in weights(parts).items())
        assert [r for r in rows("whole") if r["kind"] == "val"][-1]["loss"] == rows(parts)[-1]["loss"]


def test_a_run_that_is_over_is_left_alone(stopped: None) -> None:
    """Also with another value of a key that does not touch the numbers."""
    before = weights("x")
    assert run("max_steps=2", "log_every=7") == {}
    assert all(torch.equal(before[key], value) for key, value in weights("x").items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("optimizer.lr=0.001", r"optimizer\.lr \(was .*, is 0\.001\)"),
        ("ema_decay=0.5", r"ema_decay \(was .*, is 0\.5\)"),
        ("seed=5", r"seed \(was 0, is 5\)"),
    ],
)
def test_a_change_is_refused_or_accepted_and_told(
    change: str, told: str, stopped: None, logged: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=f"keys differ: .*{told}.*another name=.*accept_changes=true"):
        run(change)
    run(change, "accept_changes=true", "max_steps=3")
    assert re.search(f"accepted: .*{told}", logged.text)
    assert rows("x")[-1]["step"] == 3


def test_a_changed_rate_and_length_are_those_of_the_new_start(stopped: None) -> None:
    """The state of the optimizer goes on; its settings come from the configuration."""
    run("accept_changes=true", "optimizer.lr=0.0001", "optimizer.weight_decay=0.5", "epochs=4", "schedule=constant")
    group = load_checkpoint("runs/x/checkpoints/last.pt")["optimizer"]["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (0.0001, 0.5)
    assert [row["lr"] for row in rows("x") if row["kind"] == "train"][-1] == 0.0001
    assert rows("x")[-1]["step"] == 16


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_another_grouping_keeps_each_parameters_state(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had gone to whatever stood at the same place, and torch wrote past the ends of tensors of another size."""
    settings = (f"optimizer={optimizer}", "optimizer.lr=0.01")
    run(*settings, "max_steps=2")
    saved = load_checkpoint("runs/x/checkpoints/last.pt")
    names, state = saved["optimizer_names"], saved["optimizer"]["state"]
    Path("runs/x").rename("stopped")
    checked = []

    def resumed(found: Run) -> None:
        resume.resume(found)
        for name, parameter in found.model.named_parameters():
            assert (parameter in found.optimizer.state) == parameter.requires_grad
            for key, value in found.optimizer.state.get(parameter, {}).items():
                assert torch.equal(value, state[names.index(name)][key]), f"{name}: {key}"
        checked.append(found)

    monkeypatch.setattr(loop, "resume", resumed)
    changes = ("lr_factors={backbone: 0.1}", "freeze=[backbone.stem]"), ("decay_rule=all",)
    for change in changes:
        shutil.rmtree("runs/x", ignore_errors=True)
        shutil.copytree("stopped", "runs/x")
        run(*settings, *change, "accept_changes=true", "max_steps=3")
    assert len(checked) == len(changes)


def test_what_was_frozen_starts_from_zero(logged: pytest.LogCaptureFixture) -> None:
    run("max_steps=2", "freeze=[backbone.stem]")
    run("accept_changes=true", "max_steps=3")
    assert "state of 3 parameters starts from zero: backbone.stem." in logged.text


def test_a_checkpoint_of_an_earlier_version_is_refused_by_name(stopped: None) -> None:
    path = Path("runs/x/checkpoints/last.pt")
    checkpoint = load_checkpoint(path)
    del checkpoint["optimizer_names"]
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"last\.pt is from an earlier version.*weights=runs/x"):
        run("max_steps=3")


def test_another_optimizer_starts_from_zero(stopped: None, logged: pytest.LogCaptureFixture) -> None:
    run("accept_changes=true", "optimizer=sgd", "optimizer.lr=0.01", "max_steps=3")
    assert "different optimizer; its state starts from zero" in logged.text


def test_another_network_is_refused_even_then(stopped: None) -> None:
    with pytest.raises(ValueError, match=r"last\.pt do not fit this network: .*size mismatch"):
        run("accept_changes=true", "backbone.width=0.5")


def coco(*overrides: str, root: str = "made") -> dict[str, float]:
    small = ("data.input_size=[64,64]", "batch_size=4", "epochs=1", "workers=0", "backbone.width=0.35", "name=x")
    return train(compose("experiment=small_detection", "data=coco", f"data.root={root}", *small, *overrides))


def test_moved_data_resumes_and_other_data_is_refused(logged: pytest.LogCaptureFixture) -> None:
    write_shapes(compose("output=made", "num_train=16", "num_val=2", config_name="prepare"))
    coco("max_steps=1")
    Path("made").rename("moved")
    coco("max_steps=2", root="moved")
    assert rows("x")[-1]["step"] == 2
    path = Path("moved/annotations/instances_train2017.json")
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"data\.train has different images or annotations .*accept_changes=true"):
        coco(root="moved")
    coco("accept_changes=true", root="moved")
    assert "accepted: data.train has different images" in logged.text
    assert rows("x")[-1]["step"] == 4


def test_patience_ends_a_run_that_gets_no_better(logged: pytest.LogCaptureFixture) -> None:
    """Nothing learns: every evaluation equals the first. The run is then finished, also for the next start."""
    options = ("epochs=9", "eval_every=1", "patience=2", "optimizer.lr=0", "batch_norm=frozen")
    run(*options)
    assert "has not improved in 2 evaluations (patience=2)" in logged.text
    assert [row["epoch"] for row in rows("x") if row["kind"] == "train"][-1] == 3
    assert load_checkpoint("runs/x/checkpoints/last.pt")["progress"]["finished"]
    assert run(*options) == {}


@pytest.mark.parametrize(("rank", "resumed", "looks"), [(0, False, True), (1, False, False), (0, True, False)])
def test_the_main_rank_looks_for_something_to_learn_where_a_run_begins(
    rank: int, resumed: bool, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("pocketvision.tools.train.check_learnable", lambda source, task: seen.append(source) or [])
    ranks: Any = SimpleNamespace(is_main=not rank, gather=lambda fault: [fault or "nothing to learn", None])
    if resumed:
        Path("checkpoints").mkdir()
        Path("checkpoints/last.pt").touch()
    settings: Any = SimpleNamespace(run_dir=".", data=SimpleNamespace(task="detection"))
    with pytest.raises(ValueError, match="nothing to learn"):  # what the main rank found is every rank's
        _check_truth({"train": "x", "val": "x"}, settings, ranks)  # type: ignore[dict-item]
    assert seen == ["x"] * looks


def test_debug_takes_a_few_steps_draws_them_and_saves_nothing() -> None:
    results = run("mode=debug")
    assert "AP" in results
    assert Path("runs/x-debug/batch.png").is_file()
    assert not list(Path("runs/x-debug").glob("checkpoints/*"))
    assert max(row["step"] for row in map(json.loads, Path("runs/x-debug/metrics.jsonl").read_text().splitlines())) <= 8


@pytest.mark.filterwarnings("ignore:Error detected in SqrtBackward0")
def test_debug_finds_the_operation_that_made_the_first_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anomaly detection is torch's: it raises where a backward puts out a NaN, naming the forward call."""

    def sums(self: Any, outputs: dict[str, torch.Tensor], targets: Any) -> Any:
        return {"loss": (outputs["class_logits"] * 0).sqrt().sum() * 0}, torch.tensor(1)

    monkeypatch.setattr(DetectionCriterion, "sums", sums)
    with pytest.raises(RuntimeError, match=r"SqrtBackward0.*returned nan"):
        run("mode=debug")


def test_a_start_that_fails_leaves_no_folder() -> None:
    with pytest.raises(ValueError, match="reduce the batch size"):
        run("batch_size=32")
    assert not Path("runs/x").exists()


@pytest.mark.parametrize("failures", [1, 3, 99])
def test_the_best_is_written_as_soon_as_there_is_room(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no later one is as good; and a run that ends without it does not end well."""
    real, failed = resume.write_checkpoint, []

    def write(path: Path, content: Any, **options: Any) -> None:
        if path.name == "best.pt" and len(failed) < failures:
            failed.append(path)
            raise OSError(28, "No space left on device")
        real(path, content, **options)

    monkeypatch.setattr(resume, "write_checkpoint", write)
    keys = ("eval_every=1", "optimizer.lr=0", "batch_norm=frozen")  # all evaluations are equal: the first is the best
    if failures == 99:
        with pytest.raises(OSError, match=r"the best checkpoint, of step \d+, could not be written to .*best\.pt"):
            run(*keys)
        assert not Path("runs/x/checkpoints/best.pt").exists()
        assert load_checkpoint("runs/x/checkpoints/last.pt")["progress"]["best"] is None  # what is on the disk
        return
    run(*keys)
    assert len(failed) == failures
    best, last = (load_checkpoint(f"runs/x/checkpoints/{name}.pt")["progress"] for name in ("best", "last"))
    assert best["evaluations"] == best["best_evaluation"] == last["best_evaluation"] == 1
    assert last["evaluations"] > 1


def test_overfit_learns_a_few_scenes_by_heart() -> None:
    results = run(
        "mode=overfit", "overfit=4", "batch_size=4", "epochs=80", "eval_every=80", "data.input_size=[96,96]",
        "backbone.width=0.5", "schedule.warmup_epochs=10", "ema_decay=null", kind="segmentation",
    )  # fmt: skip
    assert results["mIoU"] > 0.65  # untrained: below 0.2


def test_weights_of_another_run_start_a_new_one(stopped: None) -> None:
    with pytest.raises(
        ValueError, match=r"class_towers.*set data\.num_classes to the weights' number; for training, weights_new_pred"
    ):
        run("data.preset=hard", "weights=runs/x/checkpoints/last.pt", name="second")
    assert not Path("runs/second").exists()
    run("epochs=1", "data.preset=hard", "weights=runs/x", "weights_new_predictors=true", name="second")
    with pytest.raises(ValueError, match="do not match this model"):
        run("weights=runs/x/checkpoints/last.pt", "backbone.width=0.5", name="third")


@pytest.mark.parametrize("layout", ["coco", "cityscapes"])
def test_both_real_loaders_train_on_what_prepare_shapes_writes(layout: str) -> None:
    write_shapes(compose("output=made", f"layout={layout}", "num_train=8", "num_val=4", config_name="prepare"))
    kind = "detection" if layout == "coco" else "segmentation"
    small = ("data.input_size=[64,64]", "batch_size=4", "epochs=1", "workers=0", "backbone.width=0.35")
    config = compose(f"experiment=small_{kind}", f"data={layout}", "data.root=made", *small, "name=real")
    results = train(config)
    assert ("AP" if kind == "detection" else "mIoU_category") in results
    evaluate(compose("run=runs/real", "workers=0", "pictures=2", config_name="evaluate"))
    assert len(list(Path("runs/real/pictures").iterdir())) == 2


def test_validation_data_of_other_categories_is_refused() -> None:
    write_shapes(compose("output=made", "num_train=4", "num_val=2", config_name="prepare"))
    path = Path("made/annotations/instances_val2017.json")
    content = json.loads(path.read_text())
    first, second = content["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="ids and names must agree"):
        train(compose("experiment=small_detection", "data=coco", "data.root=made", "batch_size=2", "name=y"))


def test_a_checkpoint_that_does_not_exist_by_that_name() -> None:
    with pytest.raises(ValueError, match="checkpoint=bset"):
        evaluate(compose("run=x", "checkpoint=bset", config_name="evaluate"))
