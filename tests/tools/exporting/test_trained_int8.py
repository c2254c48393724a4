"""A network that was trained in eight bits, in files: what they compute, what they say, and what is refused."""

import json
from pathlib import Path

import pytest
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.tools.benchmarking.format_choice import ready_files
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import export
from pocketvision.tools.predicting import program
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.runs.loaded import load_run

onnx = pytest.importorskip("onnx", reason="needs pip install 'pocketvision[onnx,openvino,int8]'")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_file_gives_what_the_run_gives(format: str, quantized_run: Path, tmp_path: Path) -> None:
    path = tmp_path / f"model{FORMATS[format].ending}"
    export(compose(f"run={quantized_run}", f"format={format}", "input=network", f"output={path}", config_name="export"))
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["precision"] == "int8"
    judged = about["quantization"]
    assert (judged["calibration"], judged["metric"]) == (None, "top1")
    assert judged["int8_bytes"] > 0
    found = evaluate(compose(f"file={path}", "workers=0", config_name="evaluate"))
    expected = evaluate(compose(f"run={quantized_run}", "workers=0", config_name="evaluate"))
    assert found["top1"] == judged["int8"] == pytest.approx(judged["pytorch"]) == pytest.approx(expected["top1"])
    # Sums that round to the other side go on through the layers.
    assert about["comparison"]["figures"]["logits: difference / deviation"] < 0.3
    assert about["comparison"]["figures"]["probability: difference"] < 0.01


def test_all_filters_are_stored_in_eight_bits(quantized_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(compose(f"run={quantized_run}", "format=onnx", "input=network", f"output={path}", config_name="export"))
    graph = onnx.load(path).graph
    stored = {item.name: item.data_type for item in graph.initializer}
    origin = {node.output[0]: node for node in graph.node}
    filters = [node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(filters) > 50
    assert all(stored[origin[name].input[0]] == onnx.TensorProto.INT8 for name in filters)


REFUSED = {
    "floating point": ("onnx", "fp32"),
    "half": ("openvino", "fp16"),
    "a phone": ("litert", "int8"),
    "ExecuTorch": ("executorch", "int8"),
    "Core ML": ("coreml", "int8_weights"),
    "a program": ("torch_export", "fp32"),
}


@pytest.mark.parametrize(("format", "precision"), REFUSED.values(), ids=REFUSED.keys())
def test_other_formats_and_precisions_are_refused(
    format: str, precision: str, quantized_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketvision.tools.export.check_installed", lambda *_: None)
    keys = (f"run={quantized_run}", f"format={format}", f"precision={precision}")
    with pytest.raises(ValueError, match=r"expected precision=int8 and format=onnx or format=openvino$"):
        export(compose(*keys, f"output={tmp_path / 'model'}{FORMATS[format].ending}", config_name="export"))
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_torch_is_told(quantized_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.torch, "__version__", "2.7.1+cpu")
    with pytest.raises(ValueError, match=r"needs torch 2.8 or later, but 2.7.1\+cpu is installed"):
        export(compose(f"run={quantized_run}", "format=onnx", f"output={tmp_path}/x.onnx", config_name="export"))


def test_all_formats_are_those_that_take_it(quantized_run: Path, tmp_path: Path) -> None:
    settings = BenchmarkConfig(run=str(quantized_run), formats="all")
    found = ready_files(load_run(quantized_run), settings, tmp_path, None)
    assert [target.name for targets in found for target in targets] == ["onnx int8", "openvino int8"]
    assert all(target.path.is_file() for targets in found for target in targets)
