"""The formats that a run is exported to, and the packages that write and run them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    - `precisions`: what it can be written in, the default first.
    - `runtime`: the packages that run a file; `installs` is the requirement that brings them.
    - `writing`: the packages that write one, `quantizing` those that it takes for int8 in addition; the extra of the
      format's name and the extra int8 bring them.
    - `portable`: made for phones: arrays of one size in and out, float32 results.
    - `outputs`: the choices of that key.
    - `channels_last`: images are [B, h, w, 3] also for input=network.
    - `trained_int8`: a network that was trained in eight bits can be written in it.
    - `system`: the only operating system that runs a file, if it is one; elsewhere a file is written, but not compared.
    """

    ending: str
    precisions: tuple[str, ...]
    runtime: tuple[str, ...] = ()
    installs: str = ""
    writing: tuple[str, ...] = ()
    quantizing: tuple[str, ...] = ()
    portable: bool = False
    outputs: tuple[str, ...] = ("final", "raw")
    channels_last: bool = False
    trained_int8: bool = False
    system: str = ""


_ONNX = ("onnx", "onnxscript")
FORMATS = {
    "onnx": Format(
        ending=".onnx", precisions=("fp32", "int8"), runtime=("onnxruntime",), installs="onnxruntime",
        writing=(*_ONNX, "onnxruntime"), trained_int8=True,
    ),
    "openvino": Format(
        ending=".xml", precisions=("fp32", "fp16", "bf16", "int8"), runtime=("openvino",), installs="openvino",
        writing=(*_ONNX, "openvino"), quantizing=("nncf",), trained_int8=True,
    ),
    "torch_export": Format(ending=".pt2", precisions=("fp32",)),
    "litert": Format(
        ending=".tflite", precisions=("fp32", "fp16", "int8", "int8_weights"), runtime=("ai_edge_litert",),
        installs="ai-edge-litert", writing=("litert_torch", "ai_edge_quantizer", "ai_edge_litert"), portable=True,
        outputs=("final", "raw", "mediapipe"), channels_last=True,
    ),
    "executorch": Format(
        ending=".pte", precisions=("fp32", "int8"), runtime=("executorch",), installs="executorch",
        writing=("executorch", "torchao"), portable=True,
    ),
    "coreml": Format(
        ending=".mlpackage", precisions=("fp16", "int8_weights"), writing=("coremltools",), portable=True,
        system="macOS",
    ),
}  # fmt: skip
ENDINGS = tuple(format.ending for format in FORMATS.values())
