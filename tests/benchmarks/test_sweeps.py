"""The sweeps: their points, and what they leave behind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import sweeps
from common import with_keys
from pocketvision.tools.benchmarking.subject import Setup, Subject
from pocketvision.tools.config.build import compose

QUICK = ("rounds=2", "repeats=2", "warmup=0", "memory=false", "threads=1", "device=cpu")
DETECTOR = ("model=ssdlite_torchvision", "data.num_classes=3", "data.slots=contiguous", "data.labels=null",
            "data.input_size=[96,96]", "photo_size=[60,80]")  # fmt: skip
SEGMENTER = ("model=lraspp_torchvision", "data.resize=none", "data.eval_size=null", "photo_size=[64,96]",
             "data.input_size=[64,64]")  # fmt: skip


@pytest.mark.parametrize(
    ("points", "expected"),
    [([(5.0, 1.0)], math.nan), ([(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)], 1), ([(1.0, 3.0), (10.0, 300.0)], 2)],
)
def test_exponent(points: list[tuple[float, float]], expected: float) -> None:
    assert sweeps.exponent(points) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [
        ((320, 320), 1, (320, 320)),
        ((320, 320), 0.25, (160, 160)),
        ((480, 640), 4, (960, 1280)),
        ((32, 64), 0.01, (32, 32)),
    ],
)
def test_sizes_of_a_sweep(size: tuple[int, int], factor: float, expected: tuple[int, int]) -> None:
    assert sweeps.scaled(size, factor) == expected


@pytest.mark.parametrize(
    ("keys", "axis", "values", "sizes"),
    [
        (DETECTOR, "batch", (), [1, 2, 4, 8]),
        (DETECTOR, "classes", (7, 2), [2, 7]),
        (DETECTOR, "pixels", (4,), [192 * 192]),
        (SEGMENTER, "pixels", (1,), [64 * 96]),
        (DETECTOR, "detections", (10, 100), [10, 100]),
    ],
)
def test_steps_of_a_sweep(keys: tuple[str, ...], axis: str, values: tuple[float, ...], sizes: list[int]) -> None:
    setup = Setup(compose(*QUICK, *keys, "batch_size=2", config_name="benchmark"), 1)
    steps = sweeps.steps(setup, axis, values)
    assert [step.size for step in steps] == sizes
    last = Subject(with_keys(setup, **steps[-1].keys))
    batch = last.prepare(last.photos)
    if axis == "pixels":
        assert batch.images.shape[2] * batch.images.shape[3] == sizes[-1]
    if axis == "classes":
        assert last.run.task.model(batch.images)["class_logits"].shape[2] == 8
    if axis == "detections":
        scores = last.run.task.model(batch.images)["class_logits"].softmax(-1)[..., 1:]
        postprocess: Any = last.run.task.postprocess
        assert (scores > postprocess.min_score).sum() == 200
    if axis == "batch":
        assert len(batch) == 8


def test_a_sweep_says_how_time_grows(tmp_path: Path) -> None:
    sweeps.main(["batch", *QUICK, *SEGMENTER, f"output={tmp_path}", "--values", "2", "1"])
    assert [case["batch_size"] for case in json.loads((tmp_path / "results.json").read_text())["cases"]] == [1, 2]
    assert (tmp_path / "growth.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch", "file=a.onnx"], "is fixed"),
        (["classes", "run=a"], "a run has its classes"),
        (["colours", *DETECTOR], "invalid choice: 'colours'"),
        (["pixels", "photos=a", *DETECTOR], "leave photos="),
        (["batch", *DETECTOR, "--values", "0"], "--values"),
        (["detections", "training=true", *DETECTOR], "leave training="),
        (["batch"], "set run=FOLDER"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweeps.main([*arguments, "output=null"])
    assert message in capsys.readouterr().err
