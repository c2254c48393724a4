"""Exported files: each format and task in its runtime beside PyTorch, and that a wrong file is found out."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pocketvision
import pytest
import torch
from omegaconf import OmegaConf
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.tools.config.build import build_source, build_task, compose, data_tells_classes
from pocketvision.tools.engine.state import save_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import export
from pocketvision.tools.exporting.verify import Comparison, compare
from pocketvision.tools.predict import predict
from pocketvision.tools.predicting import runtimes
from pocketvision.tools.predicting.exported import ExportedPredictor, load_file
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import load_run
from torch import nn

pytest.importorskip("onnx", reason="needs pip install 'pocketvision[onnx,openvino]'")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("traced_once")

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "onnx_detect.py"
SMALL = ("data.input_size=[64,64]", "data.num_val=3", "backbone.width=0.35")
TASKS = {
    "detection": ("experiment=demo_detection", *SMALL),
    "segmentation": ("experiment=demo_segmentation", *SMALL),
    "classification": (
        "experiment=small_classification", "data.root=nowhere", "data.num_classes=5", "data.input_size=[64,64]",
        "backbone.width=0.35", "data.resize=stretch",
    ),
}  # fmt: skip
CITY = ("experiment=lraspp_cityscapes", "backbone=mobilenet_v3_small", "backbone.width=0.35", "data.root=nowhere")


def lively(model: nn.Module) -> None:
    """Weights with which outputs depend on the photograph."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.3, 0.6, generator=generator)  # pyright: ignore
                module.weight.uniform_(1.0, 1.6, generator=generator)
                module.bias.uniform_(-0.3, 0.4, generator=generator)


def make_run(folder: Path, *overrides: str) -> Path:
    """A run folder without any training."""
    torch.manual_seed(0)
    config = compose(*overrides, f"name={folder.name}")
    task = build_task(config, labels=build_source(config, "val").labels if data_tells_classes(config.data) else None)
    lively(task.model)
    if task.kind == "segmentation":  # several classes win somewhere
        image = torch.from_numpy(photo(64, 64)).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = task.model.eval()(image)["logits"]
            bias = getattr(task.model, "high_logits", None)
            if bias is not None:
                bias.bias.sub_(logits.mean((0, 2, 3)))
    header = {"config": portable(config), "labels": task.labels.to_json(), "kind": task.kind}
    checkpoint = {**header, "model": task.model.state_dict(), "progress": {"step": 7}}
    save_checkpoint(folder / "checkpoints" / "best.pt", checkpoint)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make_run(folder / kind, *overrides) for kind, overrides in TASKS.items()}


def config_of(run: Path, output: Path, **keys: Any) -> Any:
    overrides = [f"{key}={str(value).replace(' ', '')}" for key, value in keys.items()]
    return compose(f"run={run}", f"output={output}", "threads=1", "num_photos=3", *overrides, config_name="export")


@pytest.fixture(scope="module")
def onnx_files(runs: dict[str, Path], traced_once: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each task's photograph-to-result file."""
    folder = tmp_path_factory.mktemp("onnx")
    return {k: export(config_of(run, folder / f"{k}.onnx", format="onnx")) for k, run in runs.items()}


def photo(height: int = 50, width: int = 70) -> np.ndarray:
    return ShapesDetection(length=1, size=(height, width), seed=5).read(0).image


@pytest.mark.parametrize("kind", TASKS)
def test_a_file_says_what_the_run_says(kind: str, runs: dict[str, Path], onnx_files: dict[str, Path]) -> None:
    expected, found = pocketvision.load(runs[kind])(photo()), pocketvision.load(onnx_files[kind])(photo())
    assert found.label_map == expected.label_map
    if kind == "segmentation":
        assert found.mask.shape == (50, 70)
        assert len(np.unique(expected.mask)) > 1
        assert (found.mask != expected.mask).mean() < 1e-3
        return
    assert expected.scores.std() > 1e-4
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    if kind == "detection":
        assert len(expected.boxes) == 100
        assert (found.boxes[:, 2:] <= [70, 50]).all()
        assert found.boxes[:, 2].max() > 64  # in the photograph's pixels


def test_the_graph_is_small_and_batch_norm_is_folded(onnx_files: dict[str, Path]) -> None:
    import onnx

    for kind, path in onnx_files.items():
        model = onnx.load(path)
        kinds = [node.op_type for node in model.graph.node]
        assert "BatchNormalization" not in kinds
        assert kinds.count("NonMaxSuppression") == (kind == "detection")
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        pytest.param("detection", {"format": "onnx", "input": "network", "batch": "dynamic"}, marks=pytest.mark.slow),
        ("segmentation", {"format": "onnx", "input": "network", "batch": 2, "outputs": "raw"}),
        ("detection", {"format": "openvino"}),
        pytest.param("segmentation", {"format": "openvino", "precision": "fp16"}, marks=pytest.mark.slow),
        ("classification", {"format": "openvino", "input": "network", "batch": "dynamic"}),
        pytest.param("detection", {"format": "torch_export", "input": "network", "batch": 2}, marks=pytest.mark.slow),
        ("segmentation", {"format": "torch_export"}),
    ],
)
def test_formats_inputs_and_outputs(kind: str, keys: dict[str, Any], runs: dict[str, Path], tmp_path: Path) -> None:
    ending = {"onnx": "onnx", "openvino": "xml", "torch_export": "pt2"}[keys["format"]]
    path = export(config_of(runs[kind], tmp_path / f"file.{ending}", **keys))  # which compares
    about = json.loads((tmp_path / "file.json").read_text())
    assert about["task"] == kind
    assert all(value <= about["comparison"]["limits"][key] for key, value in about["comparison"]["figures"].items())
    results = pocketvision.load(path)([photo(), photo(40, 90), photo()])
    assert [r.image.shape[:2] for r in results] == [(50, 70), (40, 90), (50, 70)]
    whole = pocketvision.load(runs[kind])(photo(40, 90))
    if kind == "segmentation":
        assert (results[1].mask != whole.mask).mean() < 0.1
    else:  # images of network files are rounded to whole grey levels
        np.testing.assert_allclose(results[1].scores[:5], whole.scores[:5], atol=0.05)
    if kind == "detection":
        assert (results[1].boxes[:, 2:] <= [90, 40]).all()


@pytest.mark.parametrize("size", [pytest.param(None, marks=pytest.mark.slow), [64, 96]])
def test_whole_images_of_any_size_or_one(size: list[int] | None, tmp_path: Path) -> None:
    run = make_run(tmp_path / "city", *CITY)
    path = export(config_of(run, tmp_path / "city.onnx", format="onnx", input_size=size or "null"))
    model, eager = pocketvision.load(path), pocketvision.load(run)
    for height, width in [(64, 96)] if size else [(64, 96), (33, 50), (100, 41)]:
        expected = eager(photo(height, width)).mask
        assert (model(photo(height, width)).mask != expected).mean() < 1e-3
    if size:
        with pytest.raises(ValueError, match=r"takes images of size \[64, 96\]"):
            model(photo(60, 90))


def test_a_perturbed_file_is_found_out(runs: dict[str, Path], onnx_files: dict[str, Path], tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    run, path = load_run(runs["segmentation"]), tmp_path / "raw.onnx"
    export(config_of(runs["segmentation"], path, format="onnx", outputs="raw"))
    photos = [photo(), photo(90, 40)]
    assert not compare(run, {"raw": load_file(path)}, photos, precision="fp32").wrong
    model = onnx.load(path)
    convolutions = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    constants = {item.name: item for item in model.graph.initializer}
    for tensor in (constants[convolutions[40]], constants[convolutions[-1]]):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        copy = next(item for item in changed.graph.initializer if item.name == tensor.name)
        copy.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.05, tensor.name))
        onnx.save(changed, path)
        assert any("deviation" in n for n in compare(run, {"raw": load_file(path)}, photos, precision="fp32").wrong)


def test_a_mismatch_leaves_no_file(
    runs: dict[str, Path], onnx_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_all(run: Any, interface: Any, folder: Path, about: Any) -> dict[str, list[Path]]:
        return {"final": [Path(shutil.copy(onnx_files["detection"], folder))]}

    wrong = Comparison(1)
    wrong.add("unmatched detections", float("nan"), 0.02)
    monkeypatch.setattr("pocketvision.tools.export.compare", lambda *_, **__: wrong)
    monkeypatch.setattr("pocketvision.tools.export.write_all", write_all)
    with pytest.raises(ValueError, match=r"differs from PyTorch in unmatched detections: .*candidates="):
        export(config_of(runs["detection"], tmp_path / "model.onnx", format="onnx"))
    assert not list(tmp_path.iterdir())


def test_metadata(onnx_files: dict[str, Path]) -> None:
    about = load_file(onnx_files["detection"]).file.about
    beside = json.loads(onnx_files["detection"].with_suffix(".json").read_text())
    assert {key: value for key, value in beside.items() if key != "comparison"} == about
    assert about["classes"] == {"1": "circle", "2": "square", "3": "triangle"}
    assert about["postprocess"]["max_iou"] == 0.6
    assert about["network_size"] == [64, 64]
    assert about["mean"] == [0.5, 0.5, 0.5]
    assert about["input"] == {
        "name": "photo", "dtype": "uint8", "shape": [1, "height", "width", 3], "channels": "RGB, 0 to 255"
    }  # fmt: skip
    assert set(about["outputs"]) == {"boxes", "scores", "labels"}


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_evaluate_and_predict_a_file(
    kind: str, runs: dict[str, Path], onnx_files: dict[str, Path], tmp_path: Path
) -> None:
    keys = (f"output={tmp_path / 'results.json'}", "workers=0", "threads=1")
    found = evaluate(compose(f"file={onnx_files[kind]}", *keys, config_name="evaluate"))
    expected = evaluate(compose(f"run={runs[kind]}", *keys, config_name="evaluate"))
    # Of thresholds with the same F1, and of detections that want one annotation, rounding takes one or another.
    figures = [key for key in found if key in expected and not key.startswith(("threshold/", "lost/"))]
    assert len(figures) > 2
    for key in figures:
        assert found[key] == pytest.approx(expected[key], abs=1e-3, nan_ok=True), key
    np.save(tmp_path / "unused.npy", photo())
    config = compose(f"file={onnx_files[kind]}", f"output={tmp_path / 'out'}", "threads=1", config_name="predict")
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), photo())
    config.inputs = [str(tmp_path / "a.png")]
    assert predict(config) == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_the_example_needs_nothing_of_ours(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    assert "pocketvision" not in "".join(
        line for line in EXAMPLE.read_text().splitlines() if line.lstrip().startswith(("import", "from"))
    )
    np.save(tmp_path / "photo.npy", photo())
    command = [sys.executable, "-I", str(EXAMPLE), str(onnx_files["detection"]), str(tmp_path / "photo.npy"), "0.0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    best = pocketvision.load(onnx_files["detection"])(photo())
    assert len(lines) == len(best.boxes)
    assert lines[0].startswith(f"{best.names[0]} {best.scores[0]:.3f} at x {best.boxes[0][0]:.1f}")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "tflite"}, "expected one of onnx, openvino, torch_export"),
        ({"format": "onnx", "precision": "bf16"}, "format=onnx supports fp32"),
        ({"format": "openvino"}, r"must end with \.xml"),
        ({"format": "onnx", "input": "film"}, "input=film: expected photo or network"),
        ({"format": "onnx", "outputs": "all"}, "outputs=all: expected final or raw"),
        ({"format": "onnx", "batch": 2}, "input=network"),
        ({"format": "onnx", "input": "network", "batch": 0}, "batch=0"),
        ({"format": "onnx", "input_size": [64]}, "input_size"),
        ({"format": "onnx", "candidates": 0}, "candidates=0"),
        ({"format": "onnx", "num_photos": 0}, "num_photos=0"),
    ],
)
def test_settings_that_cannot_be(keys: dict[str, Any], message: str, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export(config_of(runs["detection"], tmp_path / "model.onnx", **{"num_photos": 1, **keys}))


@pytest.mark.parametrize(
    ("kind", "data", "keys", "message"),
    [
        ("detection", {"resize": "letterbox"}, {}, "data.resize=letterbox .* input=network"),
        ("detection", {"resize": "none", "eval_size": None}, {}, "a detector's anchors .* input_size"),
        ("segmentation", {"resize": "none", "eval_size": None}, {"input": "network"}, "set input_size"),
    ],
)
def test_runs_whose_resize_does_not_go_in(
    kind: str, data: dict[str, Any], keys: dict[str, Any], message: str, runs: dict[str, Path]
) -> None:
    run = load_run(runs[kind])
    config = OmegaConf.merge(run.config, {"data": data})
    with pytest.raises(ValueError, match=message):
        make_interface(replace(run, config=config), **keys)


def test_torch_export_of_any_size(tmp_path: Path) -> None:
    run = make_run(tmp_path / "city", *CITY)
    with pytest.raises(ValueError, match=r"format=torch_export .* input_size"):
        export(config_of(run, tmp_path / "city.pt2", format="torch_export"))


def test_files_that_do_not_open(onnx_files: dict[str, Path], tmp_path: Path) -> None:
    import onnx

    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing\.onnx"):
        pocketvision.load(tmp_path / "nothing.onnx")
    for name in ("cut.onnx", "cut.pt2", "cut.xml"):
        (tmp_path / name).write_bytes(onnx_files["segmentation"].read_bytes()[:999])
        with pytest.raises(ValueError, match="corrupt, or not an exported file"):
            pocketvision.load(tmp_path / name)
    model = onnx.load(onnx_files["segmentation"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="was not written by pocketvision export"):
        pocketvision.load(tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="expected the extension"):
        runtimes.open_file(tmp_path / "model.bin")


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs openvino: pip install 'pocketvision\[openvino\]'"):
        runtimes.require(("openvino",), extra="openvino", need="format=openvino")


def test_other_classes_than_the_file_has(onnx_files: dict[str, Path]) -> None:
    config = compose(f"file={onnx_files['detection']}", "++data.preset=hard", "workers=0", config_name="evaluate")
    with pytest.raises(ValueError, match=r"that differ from the model's|num_classes"):
        evaluate(config)


def test_what_evaluate_and_predict_do_not_take_together(onnx_files: dict[str, Path]) -> None:
    path = onnx_files["detection"]
    with pytest.raises(ValueError, match="set run=FOLDER"):
        evaluate(compose(config_name="evaluate"))
    with pytest.raises(ValueError, match="file= contains the whole model"):
        evaluate(compose(f"file={path}", "run=x", config_name="evaluate"))
    with pytest.raises(ValueError, match="or report: drop"):
        evaluate(compose(f"file={path}", "report=true", config_name="evaluate"))
    config = compose(f"file={path}", "run=x", config_name="predict")
    config.inputs = [str(path)]
    with pytest.raises(ValueError, match="file= contains the whole model"):
        predict(config)
    assert isinstance(pocketvision.load(path), ExportedPredictor)


@pytest.mark.parametrize("key", ["optimize=true", "precision=bf16", "compile=true"])
@pytest.mark.parametrize("command", [evaluate, predict])
def test_a_file_is_as_it_was_exported(command: Any, key: str, onnx_files: dict[str, Path]) -> None:
    config = compose(f"file={onnx_files['detection']}", key, config_name=command.__name__)
    if command is predict:
        config.inputs = [str(Path(__file__).resolve().parents[3] / "docs" / "demo.png")]
    with pytest.raises(ValueError, match="cannot be changed after export"):
        command(config)


def test_a_file_is_as_it_was_exported_in_python_too(onnx_files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="cannot be changed after export"):
        pocketvision.load(onnx_files["detection"], optimize=True)
    with pytest.raises(ValueError, match="drop overrides, device"):
        pocketvision.load(onnx_files["detection"], overrides=["x=1"], device="cuda")


def test_a_run_takes_no_overrides(runs: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="drop overrides; only published networks"):
        pocketvision.load(runs["detection"], overrides=["data.eval_size=[64,64]"])


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_void_is_none_of_the_classes(format: str, tmp_path: Path) -> None:
    """A network with an output for void exports it as 255, as it predicts in PyTorch."""
    network = ("model=espnet", "model.network.p=1", "model.network.q=1", "model.network.void=true")
    run = make_run(tmp_path / "run", "experiment=demo_segmentation", *SMALL[:2], *network)
    expected = pocketvision.load(run)(photo(64, 64)).mask
    assert 0 < (expected == 255).mean() < 1
    ending = {"onnx": "onnx", "torch_export": "pt2"}[format]
    file = export(config_of(run, tmp_path / f"model.{ending}", format=format))
    assert (pocketvision.load(file)(photo(64, 64)).mask != expected).mean() < 1e-3


SIGNALS = """
import gc, signal, subprocess, sys
from pocketvision.tools.predicting.exported import load_file

signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch does when a loader has processes
models = [load_file(sys.argv[1]) for _ in range(2)]
del models[0]
del models
gc.collect()
subprocess.run(["true"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_signals_after_openvino(runs: dict[str, Path], tmp_path: Path) -> None:
    """Two files opened, and closed in that order, leave the process able to handle signals."""
    file = export(
        config_of(runs["classification"], tmp_path / "model.xml", format="openvino", input="network", batch="dynamic")
    )
    subprocess.run([sys.executable, "-c", SIGNALS, str(file)], check=True)
