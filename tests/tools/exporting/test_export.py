"""Exported files: each format and task in its runtime beside PyTorch, and that a wrong file is found out."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pocketvision
import pytest
import torch
from omegaconf import OmegaConf
from pocketvision.backbones.postprocess import Ranking
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.tools.config.build import build_source, build_task, compose, data_tells_classes
from pocketvision.tools.engine.state import save_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import export
from pocketvision.tools.exporting.outputs import output_types
from pocketvision.tools.exporting.verify import LIMITS, Comparison, compare, difference
from pocketvision.tools.predict import predict
from pocketvision.tools.predicting import runtimes
from pocketvision.tools.predicting.exported import ExportedPredictor, load_file
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import load_run
from pocketvision.tools.system import packages

onnx = pytest.importorskip("onnx", reason="needs pip install 'pocketvision[onnx,openvino]'")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("traced_once")

DOCS = Path(__file__).resolve().parents[3] / "docs"
SMALL = ("data.input_size=[64,64]", "data.num_val=3", "backbone.width=0.35")
RUNS = {
    "detection": (
        "experiment=demo_detection", *SMALL,
        "backbone.minimalistic=true", "model.network.extra_channels=[64]", "+model.network.anchors.num_maps=4",
    ),
    "segmentation": ("experiment=demo_segmentation", *SMALL),
    "classification": (
        "experiment=small_classification", "data.root=nowhere", "data.num_classes=5", "data.input_size=[64,64]",
        "backbone.width=0.35", "data.resize=stretch",
    ),
    "whole images": (
        "experiment=lraspp_cityscapes", "data.root=nowhere",
        "backbone=mobilenet_v3_small", "backbone.width=0.35", "backbone.minimalistic=true",
    ),
    "void": (
        "experiment=demo_segmentation", *SMALL[:2],
        "model=espnet", "model.network.p=1", "model.network.q=1", "model.network.void=true",
    ),
}  # fmt: skip


def photo(height: int = 50, width: int = 70) -> np.ndarray:
    return ShapesDetection(length=1, size=(height, width), seed=5).read(0).image


def lively(model: Any) -> None:
    """Weights with which outputs depend on the photograph, scores differ, and several classes win somewhere."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_var is not None
                module.running_var.uniform_(0.3, 0.6, generator=generator)
                module.weight.uniform_(1.0, 1.6, generator=generator)
                module.bias.uniform_(-0.3, 0.4, generator=generator)
        for tower in getattr(model, "class_towers", ()):
            tower[1].weight.mul_(30)
        if hasattr(model, "high_logits"):
            logits = model.eval()(torch.from_numpy(photo(64, 64)).permute(2, 0, 1)[None])["logits"]
            model.high_logits.bias.sub_(logits.mean((0, 2, 3)))


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run folders without any training."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def make(kind: str) -> Path:
        torch.manual_seed(0)
        config = compose(*RUNS[kind])
        task = build_task(
            config, labels=build_source(config, "val").labels if data_tells_classes(config.data) else None
        )
        lively(task.model)
        header = {"config": portable(config), "labels": task.labels.to_json(), "kind": task.kind}
        checkpoint = {**header, "model": task.model.state_dict(), "progress": {"step": 7}}
        save_checkpoint(folder / kind / "checkpoints" / "best.pt", checkpoint)
        return folder / kind

    return make


def config_of(run: Path, output: Path, *, num_photos: int = 3, **keys: Any) -> Any:
    overrides = [f"{key}={value}" for key, value in keys.items()]
    return compose(f"run={run}", f"output={output}", "threads=1", f"num_photos={num_photos}", *overrides,
                   config_name="export")  # fmt: skip


@pytest.fixture(scope="module")
def exported(run_of: Callable, traced_once: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run's file, exported once for each choice of keys."""

    @functools.cache
    def make(kind: str, *, format: str = "onnx", **keys: Any) -> Path:
        path = tmp_path_factory.mktemp("exported") / f"model{FORMATS[format].ending}"
        return export(config_of(run_of(kind), path, format=format, **keys))  # which compares

    return make


def test_the_page_lists_every_format_and_its_precisions() -> None:
    rows = [line.split(" | ") for line in (DOCS / "export.md").read_text().splitlines() if line.startswith("| `")]
    listed = {
        row[0].strip("| `"): (row[1].split("`")[1], tuple(row[2].split(", ")))
        for row in rows
        if row[1].startswith("`.")
    }
    assert listed == {name: (format.ending, format.precisions) for name, format in FORMATS.items()}


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_whole_images_of_any_size_in_int8(format: str, exported: Callable, tmp_path: Path) -> None:
    if format == "openvino":
        pytest.importorskip("nncf", reason="needs pip install 'pocketvision[int8]'")
    for i, size in enumerate(((96, 128), (160, 96))):
        cv2.imwrite(str(tmp_path / f"{i}.png"), photo(*size))
    file = exported("whole images", format=format, precision="int8", calibration=str(tmp_path), max_drop="null")
    float32 = pocketvision.load(exported("whole images", format=format))
    for size in ((64, 96), (130, 170)):
        found, expected = (model(photo(*size)).mask for model in (pocketvision.load(file), float32))
        assert found.shape == size
        assert (found == expected).mean() > 0.8


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_a_file_says_what_the_run_says(kind: str, run_of: Callable, exported: Callable) -> None:
    expected, found = pocketvision.load(run_of(kind))(photo()), pocketvision.load(exported(kind))(photo())
    assert found.label_map == expected.label_map
    graph = onnx.load(exported(kind)).graph
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds  # folded into the convolutions
    assert kinds.count("NonMaxSuppression") == (kind == "detection")
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
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


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("detection", {"format": "onnx", "input": "network", "batch": "dynamic"}),
        ("detection", {"format": "openvino", "input": "network", "batch": "dynamic"}),
        ("detection", {"format": "torch_export", "input": "network", "batch": 2}),
        ("segmentation", {"format": "openvino", "precision": "fp16"}),
        ("segmentation", {"format": "torch_export", "input": "network", "batch": 2, "outputs": "raw"}),
        ("classification", {"format": "openvino"}),
    ],
)
def test_formats_inputs_and_outputs(kind: str, keys: dict[str, Any], run_of: Callable, exported: Callable) -> None:
    path = exported(kind, **keys)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["task"] == kind
    assert all(value <= about["comparison"]["limits"][key] for key, value in about["comparison"]["figures"].items())
    results = pocketvision.load(path)([photo(), photo(40, 90), photo()])
    assert [r.image.shape[:2] for r in results] == [(50, 70), (40, 90), (50, 70)]
    whole = pocketvision.load(run_of(kind))(photo(40, 90))
    if kind == "segmentation":
        assert (results[1].mask != whole.mask).mean() < 0.1
    else:  # images of network files are rounded to whole grey levels
        np.testing.assert_allclose(results[1].scores[:5], whole.scores[:5], atol=0.05)
    if kind == "detection":
        assert (results[1].boxes[:, 2:] <= [90, 40]).all()


@pytest.mark.parametrize("size", ["null", "[64,96]"])
def test_whole_images_of_any_size_or_one(size: str, run_of: Callable, exported: Callable) -> None:
    model, eager = load_file(exported("whole images", input_size=size)), pocketvision.load(run_of("whole images"))
    for height, width in [(64, 96), (33, 50), (100, 41)] if size == "null" else [(64, 96)]:
        expected = eager(photo(height, width)).mask
        assert (model(photo(height, width)).mask != expected).mean() < 1e-3


def test_photographs_of_another_size_than_the_file_s(exported: Callable) -> None:
    file, message = exported("segmentation", input_size="[64,96]"), r"takes images of size \[64, 96\].*: resize it"
    with pytest.raises(ValueError, match=message):
        load_file(file)(photo(60, 90))
    with pytest.raises(ValueError, match=message):
        evaluate(compose(f"file={file}", "workers=0", config_name="evaluate"))


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_void_is_none_of_the_classes(format: str, run_of: Callable, exported: Callable) -> None:
    """A network with an output for void exports it as 255, as it predicts in PyTorch."""
    expected = pocketvision.load(run_of("void"))(photo()).mask
    assert 0 < (expected == 255).mean() < 1
    found = pocketvision.load(exported("void", format=format))(photo()).mask
    assert (found != expected).mean() < 1e-3


def test_a_perturbed_file_is_found_out(run_of: Callable, exported: Callable, tmp_path: Path) -> None:
    from onnx import numpy_helper

    run, photos = load_run(run_of("segmentation")), [photo(), photo(90, 40)]
    path, whole = tmp_path / "raw.onnx", exported("segmentation", outputs="raw")
    assert not compare(run, {"raw": load_file(whole)}, photos, precision="fp32").wrong
    convolutions = [node.input[1] for node in onnx.load(whole).graph.node if node.op_type == "Conv"]
    for name in (convolutions[40], convolutions[-1]):
        model = onnx.load(whole)
        tensor = next(item for item in model.graph.initializer if item.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.05, name))
        onnx.save(model, path)
        assert any("deviation" in n for n in compare(run, {"raw": load_file(path)}, photos, precision="fp32").wrong)


def test_a_probability_that_is_no_number_is_found_out() -> None:
    good, bad = (Ranking(torch.tensor([1, 0]), torch.tensor([first, 0.2])) for first in (0.8, float("nan")))
    for pairs in ([(good, good), (good, bad)], [(good, bad), (good, good)]):
        assert not difference("classification", pairs, LIMITS["fp32"]) <= 1


def test_a_mismatch_leaves_no_file(
    run_of: Callable, exported: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Comparison(1)
    wrong.add("unmatched detections", float("nan"), 0.02)
    monkeypatch.setattr("pocketvision.tools.export.compare", lambda *_, **__: wrong)
    monkeypatch.setattr("pocketvision.tools.export.write_all", lambda *_: {"final": [exported("detection")]})
    with pytest.raises(ValueError, match=r"differs from PyTorch in unmatched detections: .*candidates="):
        export(config_of(run_of("detection"), tmp_path / "model.onnx", format="onnx"))
    assert not list(tmp_path.iterdir())


def test_metadata(exported: Callable) -> None:
    about = load_file(exported("detection")).file.about
    beside = json.loads(exported("detection").with_suffix(".json").read_text())
    assert {key: value for key, value in beside.items() if key != "comparison"} == about
    assert about["classes"] == {"1": "circle", "2": "square", "3": "triangle"}
    assert about["postprocess"]["max_iou"] == 0.6
    assert about["network_size"] == [64, 64]
    assert about["mean"] == [0.5, 0.5, 0.5]
    assert about["input"] == {
        "name": "photo", "dtype": "uint8", "shape": [1, "height", "width", 3], "channels": "RGB, 0 to 255"
    }  # fmt: skip
    assert set(about["outputs"]) == {"boxes", "scores", "labels"}


def test_fewer_candidates_than_detections(run_of: Callable) -> None:
    """The declared shapes are those of the results."""
    run = load_run(run_of("detection"))
    post: Any = replace(run.task.postprocess, top_k=10)  # pyright: ignore[reportArgumentType]
    run = replace(run, task=replace(run.task, postprocess=post))
    shapes = {name: shape for name, _, shape in output_types(run, make_interface(run, input="network"))}
    assert shapes == {"boxes": [1, 30, 4], "scores": [1, 30], "labels": [1, 30], "counts": [1]}


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_evaluate_and_predict_a_file(kind: str, run_of: Callable, exported: Callable, tmp_path: Path) -> None:
    keys = (f"output={tmp_path / 'results.json'}", "workers=0", "threads=1")
    found = evaluate(compose(f"file={exported(kind)}", *keys, config_name="evaluate"))
    expected = evaluate(compose(f"run={run_of(kind)}", *keys, config_name="evaluate"))
    # Of thresholds with the same F1, and of detections that want one annotation, rounding takes one or another.
    figures = [key for key in found if key in expected and not key.startswith(("threshold/", "lost/"))]
    assert len(figures) > 2
    for key in figures:
        assert found[key] == pytest.approx(expected[key], abs=1e-3, nan_ok=True), key
    cv2.imwrite(str(tmp_path / "a.png"), photo())
    config = compose(f"file={exported(kind)}", f"output={tmp_path / 'out'}", "threads=1", config_name="predict")
    config.inputs = [str(tmp_path / "a.png")]
    assert predict(config) == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_the_example_needs_nothing_of_ours(exported: Callable, tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", photo())
    example = DOCS / "examples" / "onnx_detect.py"
    imports = [line for line in example.read_text().splitlines() if line.lstrip().startswith(("import", "from"))]
    assert "pocketvision" not in "".join(imports)
    command = [sys.executable, "-I", str(example), str(exported("detection")), str(tmp_path / "photo.npy"), "0.0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    best = pocketvision.load(exported("detection"))(photo())
    assert len(lines) == len(best.boxes)
    assert lines[0].startswith(f"{best.names[0]} {best.scores[0]:.3f} at x {best.boxes[0][0]:.1f}")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "tflite"}, "expected one of onnx, openvino, torch_export"),
        ({"precision": "bf16"}, "format=onnx supports fp32"),
        ({"format": "openvino"}, r"must end with \.xml"),
        ({"input": "film"}, "input=film: expected photo, network or float"),
        ({"outputs": "all"}, "outputs=all: expected final or raw"),
        ({"batch": 2}, "input=network"),
        ({"input": "network", "batch": 0}, "batch=0"),
        ({"input_size": "[64]"}, "input_size"),
        ({"candidates": 0}, "candidates=0"),
        ({"num_photos": 0}, "num_photos=0"),
    ],
)
def test_settings_that_cannot_be(keys: dict[str, Any], message: str, run_of: Callable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export(config_of(run_of("detection"), tmp_path / "model.onnx", **{"format": "onnx"} | keys))


def test_torch_export_of_any_size(run_of: Callable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format=torch_export .* input_size"):
        export(config_of(run_of("whole images"), tmp_path / "city.pt2", format="torch_export"))


@pytest.mark.parametrize(
    ("kind", "data", "keys", "message"),
    [
        ("detection", {"resize": "letterbox"}, {}, "data.resize=letterbox .* input=network"),
        ("detection", {"resize": "none", "eval_size": None}, {}, "a detector's anchors .* input_size"),
        ("segmentation", {"resize": "none", "eval_size": None}, {"input": "network"}, "set input_size"),
    ],
)
def test_runs_whose_resize_does_not_go_in(
    kind: str, data: dict[str, Any], keys: dict[str, Any], message: str, run_of: Callable
) -> None:
    run = load_run(run_of(kind))
    config = OmegaConf.merge(run.config, {"data": data})
    with pytest.raises(ValueError, match=message):
        make_interface(replace(run, config=config), **keys)


def test_files_that_do_not_open(exported: Callable, tmp_path: Path) -> None:
    whole = exported("segmentation")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing\.onnx"):
        pocketvision.load(tmp_path / "nothing.onnx")
    for name in ("cut.onnx", "cut.pt2", "cut.xml"):
        (tmp_path / name).write_bytes(whole.read_bytes()[:999])
        with pytest.raises(ValueError, match="corrupt, or not an exported file"):
            pocketvision.load(tmp_path / name)
    for text in ("", "[1]", '{"task": "segmentation", "config": {}}'):
        model = onnx.load(whole)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {"pocketvision": text} if text else {})
        onnx.save(model, tmp_path / "foreign.onnx")
        with pytest.raises(ValueError, match="was not written by pocketvision export"):
            pocketvision.load(tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="expected the extension"):
        runtimes.open_file(tmp_path / "model.bin")


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs openvino: pip install 'pocketvision\[openvino\]'"):
        packages.require(("openvino",), installs="pocketvision[openvino]", need="format=openvino")


@pytest.mark.parametrize(
    ("command", "keys", "message"),
    [
        (evaluate, ("++data.preset=hard", "workers=0"), r"that differ from the model's|num_classes"),
        (evaluate, ("run=x",), "file= contains the whole model"),
        (evaluate, ("report=true",), "or report: drop"),
        (predict, ("run=x",), "file= contains the whole model"),
        *((command, (key,), "cannot be changed after export") for command in (evaluate, predict)
          for key in ("optimize=true", "precision=bf16", "compile=true")),
    ],
)  # fmt: skip
def test_what_an_exported_file_cannot_do(command: Any, keys: tuple[str, ...], message: str, exported: Callable) -> None:
    config = compose(f"file={exported('detection')}", *keys, config_name=command.__name__)
    if command is predict:
        config.inputs = [str(DOCS / "demo.png")]
    with pytest.raises(ValueError, match=message):
        command(config)


def test_what_an_exported_file_or_a_run_cannot_do_in_python(run_of: Callable, exported: Callable) -> None:
    assert isinstance(pocketvision.load(exported("detection")), ExportedPredictor)
    with pytest.raises(ValueError, match="cannot be changed after export"):
        pocketvision.load(exported("detection"), optimize=True)
    with pytest.raises(ValueError, match="drop overrides, device"):
        pocketvision.load(exported("detection"), overrides=["x=1"], device="cuda")
    with pytest.raises(ValueError, match="drop overrides; only published networks"):
        pocketvision.load(run_of("detection"), overrides=["data.eval_size=[64,64]"])


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
def test_signals_after_openvino(exported: Callable) -> None:
    """Two files opened, and closed in that order, leave the process able to handle signals."""
    file = exported("classification", format="openvino")
    subprocess.run([sys.executable, "-c", SIGNALS, str(file)], check=True)


def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry would look up www.google-analytics.com and leave files in the home folder."""
    code = (
        "import sys\n"
        "sys.addaudithook(lambda event, args: event in ('socket.getaddrinfo', 'socket.connect') and sys.exit(event))\n"
        "from pocketvision.tools.predicting.runtimes import open_file\n"
        "try: open_file(sys.argv[1])\n"
        "except ValueError: pass\n"
        "import openvino.tools.ovc.convert_impl as used\n"
        "assert used.tm.__name__.endswith('stub'), used.tm\n"
    )
    (tmp_path / "m.xml").write_text("<net/>")
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.xml")], check=True, env=environment, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["m.xml"]


@pytest.mark.parametrize(
    "error", [KeyError("boxes"), IndexError(), RuntimeError("InvalidArgument"), TypeError()], ids=repr
)
def test_a_file_that_loads_but_does_not_run_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runtime's own errors, and outputs of other names, kinds and shapes."""

    def fails(*_: Any) -> Any:
        raise error

    for start in (fails, lambda *_: fails):
        with pytest.raises(ValueError, match=rf"m\.onnx does not run \({type(error).__name__}: .*corrupt\?"):
            runtimes._guarded(Path("m.onnx"), start, 1, "fp32")(np.zeros((1, 3), np.uint8))
    model = object.__new__(ExportedPredictor)
    model.file = runtimes.ExportedFile(Path("m.onnx"), {}, fails)
    monkeypatch.setattr(ExportedPredictor, "_finish", fails)
    with pytest.raises(ValueError, match=r"m\.onnx gives other outputs than it should"):
        model.finish({}, [])


def test_metadata_of_another_version_is_told() -> None:
    good = {"kind": "segmentation", "input": "photo", "outputs": "raw", "resize": "stretch", "input_size": None,
            "network_size": [64, 64], "batch": 1, "candidates": 9}  # fmt: skip
    wrong = [("kind", []), ("kind", "x"), ("input", 1), ("outputs", None), ("resize", "letterbox"), ("batch", True),
             ("batch", None), ("candidates", 0), ("candidates", "9"), ("candidates", 2**70), ("input_size", [1]),
             ("network_size", [64, -1]), ("network_size", "64"), ("network_size", [64.0, 64.0])]  # fmt: skip
    for interface in ({"shape": 3}, [1], None, good, *({**good, key: value} for key, value in wrong)):
        file = runtimes.ExportedFile(Path("m.onnx"), {"interface": interface}, lambda _: {})
        with pytest.raises(ValueError, match=r"m\.onnx has metadata of another version .*export it again") as caught:
            ExportedPredictor(file)
        told = isinstance(interface, dict) and "kind" in interface and interface is not good
        assert ("interface." in str(caught.value)) == told


@pytest.mark.parametrize(("format", "part"), [("onnx", ".onnx"), ("openvino", ".xml"), ("openvino", ".bin")])
def test_a_flipped_bit_of_a_file_is_told(format: str, part: str, exported: Callable, tmp_path: Path) -> None:
    """Without its checksum, as files of earlier releases are, the file loads."""
    whole = exported("classification", format=format)
    for path in whole.parent.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / whole.name
    earlier = path.read_bytes()
    path.write_bytes(earlier[: earlier.rindex(b"r\xe4\x00" if format == "onnx" else b"\n<!--")])
    pocketvision.load(path)
    path.write_bytes(earlier)
    pocketvision.load(path)
    damaged = path.with_suffix(part)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\S* is damaged: it .*checksum is wrong"):
        pocketvision.load(path)
