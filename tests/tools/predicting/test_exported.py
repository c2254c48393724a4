"""What an exported file gives back: values that no network of ours gives are an error that names the file."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pocketvision.backbones.postprocess import Ranking
from pocketvision.detection.results import Detections
from pocketvision.tools.predicting import runtimes
from pocketvision.tools.predicting.exported import ExportedPredictor

BOXES, NAN = torch.tensor([[1.0, 2.0, 30.0, 40.0]]), torch.tensor([float("nan")])
SCORES, LABELS = torch.tensor([0.5]), torch.tensor([3])
NONE = torch.zeros(0)


def finish(found: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    model = object.__new__(ExportedPredictor)
    model.file = runtimes.ExportedFile(Path("m.onnx"), {}, lambda _: {})
    model.task = SimpleNamespace(labels=SimpleNamespace(num_classes=3))  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(ExportedPredictor, "_finish", lambda *_: [found])
    return model.finish({}, [{}])


@pytest.mark.parametrize(
    "found",
    [
        Detections(torch.zeros(0, 4), NONE, NONE.long()),
        Detections(BOXES, SCORES, LABELS),
        Ranking(LABELS - 1, SCORES),
        torch.zeros(2, 2, dtype=torch.uint8),
    ],
)
def test_what_networks_give_passes(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finish(found, monkeypatch) == [found]


WRONG = {
    "a box": (Detections(BOXES * NAN, SCORES, LABELS), "not finite"),
    "a box without an end": (Detections(BOXES * torch.inf, SCORES, LABELS), "not finite"),
    "a score": (Detections(BOXES, NAN, LABELS), "not finite"),
    "a class too many": (Detections(BOXES, SCORES, LABELS + 1), "other classes than its 3 classes"),
    "a class before the first": (Detections(BOXES, SCORES, -LABELS), "other classes than its 3 classes"),
    "a class of an image": (Ranking(LABELS, SCORES), "other classes than its 3 classes"),
    "a probability": (Ranking(LABELS - 1, NAN), "not finite"),
}


@pytest.mark.parametrize(("found", "message"), WRONG.values(), ids=WRONG.keys())
def test_other_values_are_told(found: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=rf"m\.onnx gives other outputs than it should \(.*{message}\): corrupt\?"):
        finish(found, monkeypatch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "RuntimeError: "),
        ("one\ntwo", "RuntimeError: one"),
        (
            "Exception from a.cpp:84:\nCheck 'x' failed at b.cpp:7:\n Empty weights in bin file!\n\n",
            "Empty weights in bin",
        ),
        ("Exception from a.cpp:84:", "Exception from a.cpp:84:"),
    ],
)
def test_what_a_runtime_says_in_one_line(text: str, told: str) -> None:
    assert told in runtimes._told(RuntimeError(text))
