"""A classifier through every command, and its checkpoint as the start of a detector and a segmenter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.tools.browse import browse
from pocketvision.tools.config.build import build_task, compose, load_weights
from pocketvision.tools.engine.state import FORMAT, load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.evaluating.pictures import _classified
from pocketvision.tools.predict import predict
from pocketvision.tools.predicting.load import load
from pocketvision.tools.train import train
from torch import nn

SMALL = ("backbone.width=0.35", "data.input_size=[32,32]", "batch_size=8", "workers=0", "eval_every=1", "device=cpu")
COLORS = ("blue", "green", "red")


@pytest.fixture
def run(trained_run: Callable[[str], Path]) -> Path:
    return trained_run("classification")


def test_training_learns_the_colors(run: Path) -> None:
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    results = [row for row in logged if row["kind"] == "val"][-1]
    assert results["top1"] > 0.6  # chance is a third
    assert results["top5"] == 1
    assert {"top1/red", "top1/green", "top1/blue", "loss_class"} <= results.keys()


def test_evaluation_repeats_the_training_runs_and_draws_a_grid(copied_run: Callable[[str], Path]) -> None:
    run = copied_run("classification")
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in logged if row["kind"] == "val"][-1]
    results = evaluate(
        compose(f"run={run}", "checkpoint=last", "workers=0", "pictures=5", "report=true", config_name="evaluate")
    )
    assert json.loads((run / "results.json").read_text()) == results
    for key in ("top1", "top5", "loss", "top1/red"):
        assert results[key] == pytest.approx(last[key], abs=1e-6)
    assert "top1" in (run / "report" / "report.html").read_text()
    grid = cv2.imread(str(run / "pictures" / "classes.png"))
    assert grid.shape[0] > 2 * 370  # five pictures in rows of four
    assert grid.shape[1] > 4 * 400


def test_a_strip_of_pixels_is_drawn_in_the_grid(run: Path) -> None:
    model, strip = load(run, checkpoint="last"), Sample(np.zeros((1, 2000, 3), np.uint8), "strip", label=0)
    assert _classified(strip, model(strip.image), model.labels).shape[1] == 480


def test_prediction_names_the_best_classes(run: Path, color_photos: Path, tmp_path: Path) -> None:
    config = compose(f"run={run}", "checkpoint=last", f"output={tmp_path}", config_name="predict")
    config.inputs = [str(color_photos / "val" / name / "0.png") for name in COLORS]
    assert predict(config) == 0
    entries = json.loads((tmp_path / "predictions.json").read_text())
    model = load(run, checkpoint="last")
    for entry in entries:
        assert [set(row) for row in entry["top"]] == [{"class", "probability"}] * 3
        assert sum(row["probability"] for row in entry["top"]) == pytest.approx(1, abs=1e-3)
        result = model(entry["file"])
        assert result.names[0] == entry["top"][0]["class"]
        assert result.top(1)[0][1] == pytest.approx(entry["top"][0]["probability"], abs=1e-3)
    assert len(list(tmp_path.glob("*.png"))) == 3
    captioned = cv2.imread(str(tmp_path / "0.png"))
    assert captioned.shape[0] > captioned.shape[1] * 40 / 52 + 30


def test_prediction_sees_what_evaluation_sees(run: Path, color_photos: Path) -> None:
    """Each image's logits from the two paths; the border that the central crop cuts off changes nothing."""
    model = load(run, checkpoint="last")
    path = color_photos / "val" / "red" / "1.png"
    image = model.read(path)
    painted = image.copy()
    painted[[0, -1]] = painted[:, [0, -1]] = 0
    assert not np.array_equal(image, painted)
    assert np.array_equal(model(image).scores, model(painted).scores)
    center = image.copy()
    center[20] = 255 - center[20]
    assert not np.array_equal(model(image).scores, model(center).scores)


def test_browsing_writes_labels_under_images(color_photos: Path, tmp_path: Path) -> None:
    config = compose("experiment=imagenet_v3_large", f"data.root={color_photos}", f"output={tmp_path}/b.png", "count=4",
                     config_name="browse")  # fmt: skip
    browse(config)
    assert cv2.imread(str(tmp_path / "b.png")) is not None


@pytest.mark.parametrize("mode", ["overfit", "debug"])
def test_modes(mode: str, color_photos: Path, tmp_path: Path) -> None:
    """Overfitting takes its images from all classes."""
    config = compose("experiment=small_classification", f"data.root={color_photos}", *SMALL, f"mode={mode}",
                     f"run_dir={tmp_path / 'run'}", "max_steps=2", "epochs=1")  # fmt: skip
    results = train(config)
    if mode == "overfit":
        assert {"top1/red", "top1/green", "top1/blue"} <= results.keys()
    else:
        assert (tmp_path / "run" / "batch.png").is_file()


# ---- weights=RUN -----------------------------------------------------------------------------------------


V3, V2, LARGE = "backbone=mobilenet_v3_small", "backbone=mobilenet_v2", "backbone=mobilenet_v3_large"
WIDTH, WHOLE, NAMES = "backbone.width=0.35", "backbone.reduced=null", "data.classes=[a,b,c]"
DETECTOR, SEGMENTER = "experiment=small_detection", "experiment=small_segmentation"


def checkpoint(tmp_path: Path, *overrides: str) -> Path:
    """A checkpoint of a classifier whose weights nobody has trained, as a run would save it."""
    model, backbone = backbone_of("experiment=small_classification", WIDTH, *overrides)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    ema = {key: value + 1 if value.is_floating_point() else value for key, value in model.state_dict().items()}
    path = tmp_path / "classifier.pt"
    torch.save({"format": FORMAT, "model": model.state_dict(), "ema": ema, "config": {"backbone": backbone}}, path)
    return path


def backbone_of(*overrides: str) -> tuple[nn.Module, dict[str, Any]]:
    config = compose(*overrides, "data.num_classes=3")
    torch.manual_seed(1)
    return build_task(config).model, OmegaConf.to_container(config.backbone, resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("trunk", "options", "left_out"),
    [
        (V3, (DETECTOR,), {"hidden", "logits"}),
        (V3, (SEGMENTER, NAMES), {"hidden", "logits"}),
        (V3, (SEGMENTER, NAMES, "model=raspp"), {"hidden", "logits"}),
        (V2, (DETECTOR,), {"logits"}),
        (V2, (SEGMENTER, NAMES, "backbone.last=null"), {"logits", "backbone.last"}),
    ],
)
def test_a_classifier_starts_the_backbone(
    trunk: str, options: tuple[str, ...], left_out: set[str], tmp_path: Path
) -> None:
    path = checkpoint(tmp_path, trunk)
    model, group = backbone_of(*options, trunk, WIDTH, WHOLE)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, path, backbone=group)
    averaged = load_checkpoint(path)["ema"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, averaged[name] if name.startswith("backbone.") else fresh[name]), name
    dropped = {name.rpartition(".")[0] for name in report.unexpected}
    assert {"backbone.last" if name.startswith("backbone.last") else name for name in dropped} == left_out
    for part in (f"loaded {len(report.loaded)} tensors", "stay randomly initialized",
                 f"{len(report.unexpected)} are not part of this network ("):  # fmt: skip
        assert part in str(report)


@pytest.mark.parametrize(
    ("trunk", "options", "message"),
    [
        ((V3,), (V3, WIDTH), r"backbone\.reduced is null there, detection here: use the same settings for both"),
        ((V3,), (V3, WHOLE), r"backbone\.width is 0\.35 there, 1\.0 here"),
        ((V3,), (V2, WIDTH, WHOLE), r"backbone\._target_ is .*MobileNetV3 there, .*MobileNetV2"),
        ((V3,), (LARGE, WIDTH, WHOLE), r"backbone\.variant is small there"),
        # has the same shapes
        ((LARGE, "backbone.nonlinearity=relu"), (LARGE, WIDTH, WHOLE), r"nonlinearity is relu there, paper here"),
    ],
)
def test_another_backbone_is_refused_by_key(
    trunk: tuple[str, ...], options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model, group = backbone_of(DETECTOR, *options)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_weights(model, checkpoint(tmp_path, *trunk), backbone=group)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in model.state_dict().items())


def test_a_classifier_of_other_classes_keeps_all_but_the_last_layer(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, V3)
    model = build_task(compose("experiment=small_classification", "data.num_classes=5", V3, WIDTH)).model
    report = load_weights(model, path, new_predictors=True)
    assert set(report.reinitialized) == {"logits.weight", "logits.bias"}
    assert torch.equal(model.state_dict()["hidden.weight"], load_checkpoint(path)["ema"]["hidden.weight"])


def test_weights_may_be_a_run_folder(run: Path, tmp_path: Path) -> None:
    model, group = backbone_of(DETECTOR, V3, WIDTH, WHOLE)
    load_weights(model, run, backbone=group)
    best = load_checkpoint(run / "checkpoints" / "best.pt")["ema"]
    assert torch.equal(model.state_dict()["backbone.last.conv.weight"], best["backbone.last.conv.weight"])
    with pytest.raises(FileNotFoundError, match=r"has no checkpoints/best\.pt or last\.pt"):
        load_weights(model, tmp_path)
