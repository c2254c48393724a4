"""`import-weights` and `predict model=`: published networks without a run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pocketvision
import pytest
import torch
from pocketvision.tools.config.build import build_task, compose
from pocketvision.tools.config.overrides import with_implied
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.engine.state import save_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.import_weights import import_weights
from pocketvision.tools.predict import predict
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import load_run
from pocketvision.tools.weights.load import load_weights
from torch import nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

MODELS = {"ssdlite_torchvision": ssdlite320_mobilenet_v3_large, "lraspp_torchvision": lraspp_mobilenet_v3_large}
SOURCE = "weights_source=torchvision"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A state dict of torchvision's own builders, by model; the detector's scores are spread out."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    for name, build in MODELS.items():
        network = build(weights=None, weights_backbone=None)
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.bias, std=3.0)
        torch.save(network.state_dict(), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in MODELS}


def made_run(*line: str) -> Path:
    return import_weights(compose(*line, config_name="import_weights"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    return path


def test_the_model_alone_means_the_published_network() -> None:
    assert with_implied([], "predict") == []
    line = ["model=ssdlite_torchvision", "x.jpg"]
    assert with_implied(line, "predict") == ["public=ssdlite_torchvision", *line]
    assert with_implied(line, "train") == line
    line = ["experiment=small_segmentation", "model=espnet"]
    assert with_implied(line, "train") == ["backbone=none", *line]
    assert with_implied([*line, "backbone=x"], "train") == [*line, "backbone=x"]
    for other in (["model=ssdlite"], ["model=../x"], ["experiment=demo_detection", "model=ssdlite_torchvision"]):
        assert with_implied(other, "import_weights") == other


@pytest.mark.parametrize(("model", "names"), [("ssdlite_torchvision", "toothbrush"), ("lraspp_torchvision", "person")])
def test_from_a_file_to_predictions(model: str, names: str, files: dict, photo: Path, tmp_path: Path) -> None:
    """Imported and then predicted, or predicted at once: the same, with the classes' names."""
    line = (f"public={model}", f"weights={files[model]}", SOURCE)
    path = made_run(*line, f"output={tmp_path / 'run'}")
    assert path == tmp_path / "run" / "checkpoints" / "best.pt"
    assert names in load_run(tmp_path / "run").task.labels.names.values()
    entries = []
    for number, source in enumerate((line, (f"run={tmp_path / 'run'}",))):
        output = tmp_path / str(number)
        config = compose(*source, f"output={output}", "score_threshold=0.01", config_name="predict")
        config.inputs = [str(photo)]
        assert predict(config) == 0
        entries += json.loads((output / "predictions.json").read_text())
    assert entries[0] == entries[1]
    found = entries[0].get("detections") or entries[0]["classes"]
    assert found
    assert "class " not in json.dumps(found)
    # and training starts from it
    assert not load_weights(build_task(load_run(tmp_path / "run").config).model, tmp_path / "run").reinitialized
    with pytest.raises(ValueError, match="already contains a run"):
        made_run(*line, f"output={tmp_path / 'run'}")


def test_weights_that_are_not_all_of_the_network(files: dict, tmp_path: Path) -> None:
    line = ["public=ssdlite_torchvision", f"weights={files['ssdlite_torchvision']}", SOURCE]
    line += [f"output={tmp_path / 'run'}", "data.slots=contiguous", "data.num_classes=80"]
    with pytest.raises(ValueError, match=r"predict another number of classes .*set data\.num_classes to the weights"):
        made_run(*line)
    assert not (tmp_path / "run").exists()
    assert made_run(*line, "weights_new_predictors=true").is_file()


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        (import_weights, ("public=ssdlite_torchvision", "output=x"), "set weights=FILE"),
        (
            predict,
            (),
            r"set run=FOLDER \(a training run\), file=MODEL.onnx, or model=ssdlite_torchvision weights=torchvision",
        ),
        (predict, ("run=x", "weights=torchvision"), "run= already has a model and weights"),
        (predict, ("run=x", "public=ssdlite_torchvision"), "run= already has a model and weights"),
        (predict, ("weights=x.pth",), "weights=x.pth needs a published network: set model=ssdlite_torchvision"),
        (predict, ("weights=x.pth", "public=ssdlite_torchvision"), "weights=x.pth: no such file"),
    ],
)
def test_contradictions_and_gaps(command: Any, line: tuple[str, ...], message: str, photo: Path) -> None:
    config = compose(*line, config_name=command.__name__)
    if command is predict:
        config.inputs = [str(photo)]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        command(config)


def test_classes_that_only_the_data_can_tell(in_tmp_path: Path) -> None:
    write_shapes(compose("output=made", "num_train=2", "num_val=2", config_name="prepare"))
    data = ("data.train_json=made/annotations/instances_train2017.json", "data.images=made/val2017",
            "data.val_json=made/annotations/instances_val2017.json")  # fmt: skip
    network = ("experiment=small_detection", "backbone.width=0.35")
    torch.save(build_task(compose(*network, "data.num_classes=3")).model.state_dict(), "weights.pth")
    made_run(*network, *data, "weights=weights.pth", "output=new")
    assert list(load_run("new").task.labels.names.values()) == ["circle", "square", "triangle"]
    with pytest.raises(ValueError, match=r"set data\.train_json=\.\.\., data\.images"):
        made_run(*network, "weights=weights.pth", "output=other")


def test_the_lines_of_the_documentation(
    files: dict, photo: Path, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(mobilenet_v3_small().state_dict(), "mobilenet_v3_small.pth")
    shutil.copy(files["ssdlite_torchvision"], "ssdlite320.pth")
    shutil.copy(photo, "photo.jpg")
    text = (Path(pocketvision.__file__).parent / "docs" / "weights.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    printed = re.search(r"# (loaded .*?, )", code)
    assert printed is not None
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith(printed[1])]
    assert line.endswith("4 are not part of this network (classifier.0, classifier.3)")
    state = torch.load("mobilenet_v3_small.pth")
    assert torch.equal(found["model"].backbone.stem.conv.weight, state["features.0.0.weight"])
    assert found["detector"]("photo.jpg").boxes.shape[1] == 4


def test_no_published_network_of_that_name() -> None:
    with pytest.raises(ValueError, match="not a published network; choose one of c3net, classifier, espnet"):
        pocketvision.load("ssdlite", weights="torchvision")


def test_a_published_classifier_knows_its_classes(photo: Path, tmp_path: Path) -> None:
    network = mobilenet_v3_small()
    nn.init.zeros_(network.classifier[3].weight)
    network.classifier[3].bias.data[281] = 9.0
    torch.save(network.state_dict(), tmp_path / "x.pth")
    options = {"weights": tmp_path / "x.pth", "source": "torchvision", "overrides": ["backbone=mobilenet_v3_small"]}
    assert pocketvision.load("classifier", **options)(photo).top(1)[0][0] == "tabby"


@pytest.mark.parametrize("name", ["espnet", "espnetv2", "c3net"])
def test_void_is_ignored_in_predictions_and_missed_in_evaluation(name: str, tmp_path: Path) -> None:
    write_shapes(compose(f"output={tmp_path / 'city'}", "layout=cityscapes", "size=[32,64]", "num_train=1", "num_val=1",
                        config_name="prepare"))  # fmt: skip
    network = (f"model={name}", f"data.root={tmp_path / 'city'}", "data.eval_size=[32,64]")
    model = build_task(compose(*network, config_name="predict")).model
    assert (model.num_classes, model.num_outputs) == (19, 20)
    logits = model.decoder.logits
    nn.init.zeros_(logits.weight)
    if logits.bias is not None:
        logits.bias.data[19] = 1.0
    else:
        logits.weight.data[:, 19] = 1.0  # PReLU leaves something positive
    torch.save(model.state_dict(), tmp_path / "x.pth")
    made_run(*network, f"weights={tmp_path / 'x.pth'}", f"output={tmp_path / 'run'}")
    photo = next(tmp_path.glob("city/leftImg8bit/val/*/*.png"))
    result = pocketvision.load(tmp_path / "run")(photo)
    assert "ignored" in result.names
    void = compose(f"run={tmp_path / 'run'}", "workers=0", "device=cpu", config_name="evaluate")
    assert 0 <= evaluate(void)["mIoU"] < 0.5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", 3),
        ("labels", {"num_classes": 1}),
        ("labels", {"num_classes": 1, "labels": [{"slot": [], "name": "a", "source_id": 0}]}),
        ("progress", 7),
        ("progress", {}),
        ("model", 7),
        ("model", {"a": 1}),
        ("ema", [1]),
    ],
)
def test_a_run_with_something_else_in_it(key: str, value: object, tmp_path: Path) -> None:
    config = compose("experiment=small_classification", "backbone.width=0.35", "data.num_classes=2", "data.root=x")
    task = build_task(config)
    content = {"config": portable(config), "labels": task.labels.to_json(), "model": task.model.state_dict(),
               "progress": {"step": 7}}  # fmt: skip
    save_checkpoint(tmp_path / "x.pt", content)
    assert load_run(tmp_path / "x.pt").step == 7
    save_checkpoint(tmp_path / "x.pt", content | {key: value})
    with pytest.raises(ValueError, match=r"label map|network"):
        load_run(tmp_path / "x.pt")
