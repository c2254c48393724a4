"""Quantized files: what is refused, that they keep the metric, and that the gates they fuse are the network's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import export
from pocketvision.tools.exporting import int8
from pocketvision.tools.exporting.int8 import Cost
from pocketvision.tools.exporting.quantize import with_fused_gates
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.formats import FORMATS

onnx = pytest.importorskip("onnx", reason="needs pip install 'pocketvision[onnx,openvino,int8]'")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.usefixtures("traced_once")


def graph_of(*nodes: Any) -> Any:
    """A graph from `x` to the last node's output, with the scalar 0.5 as `half`."""
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 50]) for name in ("x", nodes[-1].output[0])]
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    graph = helper.make_graph(list(nodes), "gates", ends[:1], ends[1:], [half])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs_of(model: Any, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def test_a_gate_is_rewritten_and_gives_the_same() -> None:
    from onnx import helper

    network = graph_of(
        helper.make_node("HardSigmoid", ["x"], ["gate"], alpha=1 / 6, beta=0.5),
        helper.make_node("HardSigmoid", ["gate"], ["other"], alpha=0.2, beta=0.5),
        helper.make_node("Mul", ["other", "gate"], ["y"]),
    )
    before = network.SerializeToString()
    rewritten = with_fused_gates(network)
    kinds = [node.op_type for node in rewritten.graph.node]
    assert kinds == ["Add", "Clip", "Mul", "HardSigmoid", "Mul"]  # the other one is no gate of ours
    assert network.SerializeToString() == before
    x = np.linspace(-5, 5, 200, dtype=np.float32).reshape(4, 50)
    np.testing.assert_allclose(outputs_of(rewritten, x), outputs_of(network, x), rtol=0, atol=1e-7)


def test_a_graph_without_gates_stays_as_it_is() -> None:
    from onnx import helper

    network = graph_of(helper.make_node("Mul", ["x", "half"], ["y"]))
    assert with_fused_gates(network) == network


def config_of(run: Path, output: Path, **keys: Any) -> Any:
    overrides = [f"{key}={value}" for key, value in keys.items()]
    return compose(f"run={run}", f"output={output}", "threads=1", "precision=int8", *overrides, config_name="export")


@pytest.mark.parametrize(
    ("kind", "format", "input"),
    [("detection", "onnx", "photo"), ("segmentation", "openvino", "photo"), ("classification", "onnx", "network")],
)
def test_a_file_in_int8(kind: str, format: str, input: str, trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / f"model{FORMATS[format].ending}"
    export(config_of(trained_run(kind), path, format=format, input=input, calibration=2, max_drop=1.0))
    about = json.loads(path.with_suffix(".json").read_text())
    quantization = about["quantization"]
    assert about["precision"] == "int8"
    assert quantization["calibration"]["images"] == 2
    assert len(quantization["calibration"]["fingerprint"]) == 64
    assert set(about["comparison"]["limits"].values()) == {None}  # the metric judges
    found = evaluate(compose(f"file={path}", "threads=1", "workers=0", config_name="evaluate"))
    assert found[quantization["metric"]] == quantization["int8"]
    if format == "onnx":
        assert "QuantizeLinear" in {node.op_type for node in onnx.load(path).graph.node}


def test_a_batch_of_any_size(trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    keys = {"format": "onnx", "input": "network", "batch": "dynamic", "calibration": 3, "max_drop": "null"}
    export(config_of(trained_run("detection"), path, **keys))
    model = load_file(path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    together, alone = model.file.run(images), [model.file.run(image[None]) for image in images]
    assert together["counts"].tolist() == [int(found["counts"][0]) for found in alone]
    np.testing.assert_allclose(together["scores"], [found["scores"][0] for found in alone], rtol=0, atol=1e-6)
    assert "int8" not in json.loads(path.with_suffix(".json").read_text())["quantization"]  # it was not judged


@pytest.mark.parametrize(
    ("format", "remedy"), [("onnx", "allow it with max_drop="), ("openvino", "precision=bf16, or allow it")]
)
def test_a_loss_above_max_drop_writes_nothing(
    format: str, remedy: str, trained_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost(metric="AP", images=3, reference="float32", before=0.5, int8=0.4, sizes={"float32": 4, "int8": 1})
    monkeypatch.setattr(int8, "_measured", lambda *_: cost)
    path = tmp_path / f"model{FORMATS[format].ending}"
    with pytest.raises(
        ValueError, match=r"int8 loses 0.1000 of AP, more than max_drop=0.01; nothing was written"
    ) as told:
        export(config_of(trained_run("detection"), path, format=format, calibration=2))
    assert "more images (calibration=300)" in str(told.value)
    assert remedy in str(told.value)
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "calibration of nothing": ({"calibration": 0}, "calibration=0: expected 1 or more"),
    "half an image": ({"calibration": 2.5}, "calibration=2.5: expected a number of images, or a folder of photographs"),
    "a folder without photographs": ({"calibration": "EMPTY"}, "no images in"),
    "a negative drop": ({"max_drop": -0.1}, "max_drop=-0.1: expected 0 or more, or null"),
    "photographs of another size": (
        {"input": "photo", "input_size": "[50,70]"},
        r"one of its images is \[64, 64\] \(h, w\), not input_size=\[50, 70\]. Remedy: input=network, or max_drop=null",
    ),
    "int8 of torch.export": ({"format": "torch_export"}, "precision=int8: format=torch_export supports fp32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_work(name: str, trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    keys, message = REFUSED[name]
    (tmp_path / "empty").mkdir()
    keys = {key: tmp_path / "empty" if value == "EMPTY" else value for key, value in keys.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export(config_of(trained_run("detection"), tmp_path / "model.onnx", **({"format": "onnx"} | keys)))
    assert list(tmp_path.glob("model*")) == []
