"""Core ML files: what they consist of where coremltools is installed, and the comparison that a Mac makes."""

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pocketvision.conf.schema import ExportConfig
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import check, export, own_precision
from pocketvision.tools.exporting.metadata import describe_file
from pocketvision.tools.exporting.portable import raw_network, whole_call
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import load_run

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "coreml_compare.py"
FLOAT16, FLOAT32 = 10, 11  # of MIL's data types


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coreml_compare", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_evaluation_needs_a_mac(tmp_path: Path) -> None:
    (tmp_path / "model.mlpackage").mkdir()
    message = r"only macOS can run .*\.mlpackage\. .*: python docs/examples/coreml_compare.py .* RUN PHOTOS$"
    with pytest.raises(ValueError, match=message):
        evaluate(compose(f"file={tmp_path / 'model.mlpackage'}", config_name="evaluate"))


def test_one_image_at_a_time(trained_run: Callable[[str], Path]) -> None:
    run = load_run(trained_run("classification"))
    with pytest.raises(ValueError, match=r"batch=2: format=coreml takes one image at a time.*input=float"):
        make_interface(run, format="coreml", batch=2)
    assert make_interface(run, format="coreml", batch=2, input="float").shape == [2, 3, 32, 32]


def test_its_own_precision_is_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketvision.tools.exporting.files.require", lambda *_, **__: None)
    for format, precision in (("coreml", "fp16"), ("onnx", "fp32")):
        check(ExportConfig(format=format))
        float_run: Any = SimpleNamespace(quantized=False)
        assert own_precision(ExportConfig(format=format), float_run) == precision
    with pytest.raises(ValueError, match="precision=fp32: format=coreml supports fp16 or int8_weights"):
        check(ExportConfig(format="coreml", precision="fp32"))


FILES = {
    "boxes in images": ("detection", {}, "int8_weights"),
    "logits of numbers": ("segmentation", {"input": "float", "batch": 2, "outputs": "raw"}, "fp16"),
    "label maps of photographs": ("segmentation", {"input": "photo", "input_size": "[50,70]"}, "fp16"),
    "classes": ("classification", {}, "fp16"),
}


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    ct = pytest.importorskip("coremltools", reason="needs pip install 'pocketvision[coreml]'")
    kind, keys, precision = FILES[name]
    path = tmp_path / "model.mlpackage"
    (path / "old").mkdir(parents=True)  # an earlier file of that name
    given = [f"{key}={value}" for key, value in keys.items()]
    fixed = (f"run={trained_run(kind)}", "format=coreml", f"output={path}", f"precision={precision}")
    export(compose(*fixed, *given, config_name="export"))
    assert not (path / "old").exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model.json", "model.mlpackage"]
    model = ct.models.MLModel(str(path), skip_model_load=True)
    about = json.loads(model.user_defined_metadata["pocketvision"])
    assert about == json.loads(path.with_suffix(".json").read_text())
    assert (about["comparison"], about["precision"]) == ("not compared", precision)
    spec = model.get_spec()
    (given_input,) = spec.description.input
    assert given_input.name == about["input"]["name"]
    if about["input"]["dtype"] == "uint8":
        size = given_input.type.imageType.height, given_input.type.imageType.width
        assert list(size) == about["interface"]["input_size"]
    else:
        assert list(given_input.type.multiArrayType.shape) == about["input"]["shape"]
    types = {"float32": 65568, "int32": 131104}  # of ArrayFeatureType
    found = {item.name: item.type.multiArrayType for item in spec.description.output}
    assert {key: value.dataType for key, value in found.items()} == {
        key: types[value["dtype"]] for key, value in about["outputs"].items()
    }
    assert [list(value.shape) for value in found.values()] == [value["shape"] for value in about["outputs"].values()]
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    computed = Counter((item.type, item.outputs[0].type.tensorType.dataType) for item in block.operations)
    assert computed["conv", FLOAT16] > 10
    assert not any(computed[after, FLOAT16] for after in ("topk", "matmul", "gather", "greater"))
    assert any(kind.startswith("constexpr") for kind, _ in computed) == (precision == "int8_weights")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.resize(image, (90, 70), interpolation=cv2.INTER_CUBIC))
    return tmp_path


def fake_of(run: Path, changed: float = 0, **keys: Any) -> tuple[dict[str, Any], Callable]:
    """A file's metadata, and coremltools' `predict` for it, computed by PyTorch; `changed` is added to floats."""
    loaded = load_run(run)
    interface = make_interface(loaded, format="coreml", **keys)
    plain = portable(loaded.config)
    about = describe_file(loaded, interface, config=plain, format="coreml", precision="fp16", source=str(run))
    call = whole_call(loaded, interface, raw_network(loaded, interface)).eval()

    def predict(given: dict[str, Any]) -> dict[str, np.ndarray]:
        array = np.array(given[interface.name])
        if array.ndim == 3:  # a Pillow image
            array = array[None] if interface.input == "photo" else array.transpose(2, 0, 1)[None]
        with torch.inference_mode():
            found = call(torch.from_numpy(np.ascontiguousarray(array)))
        arrays = {name: value.numpy() for name, value in found.items()}
        return {
            name: value.astype(np.int32) if name == "label_map" else value + np.float32(changed)
            for name, value in arrays.items()
        }

    return about, predict


KEYS = {
    "boxes": ("detection", {}, "unmatched detections"),
    "boxes of numbers": ("detection", {"input": "float"}, "unmatched detections"),
    "logits": ("segmentation", {"outputs": "raw"}, "logits: difference / deviation"),
    "a label map of a photograph": ("segmentation", {"input": "photo", "input_size": (50, 70)}, "differing pixels"),
    "classes": ("classification", {}, "probability: difference"),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_comparison_on_a_mac(
    name: str, script: ModuleType, trained_run: Callable[[str], Path], photos: Path
) -> None:
    kind, keys, figure = KEYS[name]
    run = trained_run(kind)
    about, predict = fake_of(run, **keys)
    same = script.compare_file("m.mlpackage", about, predict, str(run), str(photos))
    assert same.photos == 3
    assert same.figures[figure] < 1e-3
    assert not same.wrong


def test_a_file_that_differs_is_found_out(
    script: ModuleType, trained_run: Callable[[str], Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_run("classification")
    for changed, expected in ((0.0, 0), (0.1, 1)):
        about, predict = fake_of(run, changed=changed)
        model = SimpleNamespace(user_defined_metadata={"pocketvision": json.dumps(about)}, predict=predict)
        module: Any = ModuleType("coremltools")
        module.models = SimpleNamespace(MLModel=lambda _, model=model: model)
        monkeypatch.setitem(sys.modules, "coremltools", module)
        assert script.main("m.mlpackage", str(run), str(photos)) == expected
