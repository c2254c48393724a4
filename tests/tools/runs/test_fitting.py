"""Weights that do not fit: all conflicts at once, with overrides that really make them fit."""

from pathlib import Path

import pytest
import torch
from pocketvision.backbones.weights import override
from pocketvision.datasets.labels import nameless_labels
from pocketvision.tools.config.build import build_task, compose
from pocketvision.tools.engine.state import save_checkpoint
from pocketvision.tools.runs.fitting import changed, overrides_that_fit, task_with_weights
from pocketvision.tools.runs.keys import portable

DATA = ("data=coco", "data.root=x", "name=x")
OWN = nameless_labels(3, first=1)
PIXELS = nameless_labels(3, first=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's detector and VOC's segmenter as torchvision saves them, and a detector of ours with a configuration."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    folder = tmp_path_factory.mktemp("weights")
    none = {"weights": None, "weights_backbone": None}
    torch.save(ssdlite320_mobilenet_v3_large(**none).state_dict(), folder / "coco.pth")
    torch.save(lraspp_mobilenet_v3_large(**none).state_dict(), folder / "voc.pth")
    changes = ("backbone=mobilenet_v2", "backbone.width=0.35", "data.num_classes=90", *DATA)
    config = compose("experiment=ssdlite_coco_torchvision", *changes)
    model = build_task(config).model
    save_checkpoint(folder / "own.pt", {"config": portable(config), "model": model.state_dict(), "ema": None})
    return folder


@pytest.mark.parametrize(
    ("overrides", "added"),
    [
        (
            "experiment=small_detection weights=coco.pth weights_source=torchvision",
            "model=ssdlite_torchvision model.postprocess.activation=sigmoid weights_new_predictors=true",
        ),
        pytest.param(
            "experiment=finetune_detection weights=coco.pth data.input_size=[96,160]",
            "weights_source=torchvision backbone.reduced=detection backbone.width=1.0 model=ssdlite_torchvision "
            "model.network.mean=[0.5,0.5,0.5] model.network.std=[0.5,0.5,0.5] "
            "model.postprocess.activation=sigmoid weights_new_predictors=true",
            marks=pytest.mark.by_hand,
        ),
        pytest.param(
            "experiment=small_detection weights=coco.pth weights_source=torchvision backbone.width=0.5",
            "weights_reduce=importance model=ssdlite_torchvision model.postprocess.activation=sigmoid "
            "weights_new_predictors=true",
            marks=pytest.mark.by_hand,
        ),
        pytest.param(
            "experiment=small_detection weights=coco.pth weights_source=torchvision backbone=mobilenet_v2 "
            "backbone.divisor=4",
            "backbone=mobilenet_v3_large backbone.reduced=detection backbone.width=1.0 model=ssdlite_torchvision "
            "model.postprocess.activation=sigmoid weights_new_predictors=true",
            marks=pytest.mark.by_hand,
        ),
        (
            "experiment=small_segmentation weights=voc.pth",
            "weights_source=torchvision weights_reduce=importance model=lraspp_torchvision backbone.atrous=torchvision "
            "weights_new_predictors=true",
        ),
        (
            "experiment=small_detection weights=own.pt",
            "backbone=mobilenet_v2 backbone.width=0.35 model=ssdlite_torchvision "
            "model.postprocess.activation=sigmoid weights_new_predictors=true",
        ),
        ("experiment=small_detection weights=voc.pth", ""),  # a segmenter's: its backbone alone would be silent
    ],
)  # fmt: skip
def test_what_to_add_is_found_by_trying(
    files: Path, overrides: str, added: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    given = [*overrides.split(), *(DATA if "detection" in overrides else (*DATA[1:], "data.classes=[a,b,c]"))]
    labels = PIXELS if "segmentation" in overrides else OWN
    with pytest.raises(ValueError):  # noqa: PT011 - of many kinds
        task_with_weights(compose(*given), labels)
    found = overrides_that_fit(given, labels)
    print(found)
    assert {*found} == {*added.split()}
    if found:
        task = task_with_weights(compose(*changed(given, found)), labels)
        assert task.model.state_dict()["backbone.stem.conv.weight"].device.type == "cpu"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "k=true"), (None, "k=null"), ((1.0, 2), "k=[1.0,2]"), ("a-b.c", "k=a-b.c"), ("a b", 'k="a b"')],
)
def test_values_are_written_as_a_command_line_takes_them(value: object, text: str) -> None:
    assert override("k", value) == text


def test_an_error_without_a_remedy_is_not_its_own_cause(tmp_path: Path) -> None:
    """The command line follows causes, and would follow that one for ever."""
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth") as told:
        task_with_weights(compose("experiment=ssdlite_coco", f"weights={tmp_path / 'x.pth'}", *DATA), OWN)
    assert told.value.__cause__ is not told.value
