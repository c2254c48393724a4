"""Eight-bit networks by post-training quantization, in the recipe that is best for each runtime."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..system.console import quiet
from ..system.packages import import_nncf
from .onnx_file import IMAGES


def quantized(network: Any, batches: Sequence[np.ndarray], *, format: str) -> Any:
    """A network's ONNX graph in int8, which `build_onnx` completes.

    For ONNX Runtime, its own `quantize_static`: the convolutions, per channel. For OpenVINO, NNCF's `quantize`, also of
    the other layers (preset MIXED), after the gates are rewritten so that OpenVINO fuses them: NNCF then does not
    recognize squeeze-and-excitation, which it would leave in floating point, half of V3-Small's weights.

    Args:
        network: of `network_proto`; it stays as it is.
        batches: float32 [B, 3, h, w] in 0..255.
        format: onnx or openvino.
    """
    return _by_onnxruntime(network, batches) if format == "onnx" else _by_nncf(with_fused_gates(network), batches)


def _by_onnxruntime(network: Any, batches: Sequence[np.ndarray]) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            batch = next(self._batches, None)
            return None if batch is None else {IMAGES: batch}

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "network.onnx")
        quantize_static(
            _copy(network), path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, op_types_to_quantize=["Conv"],
        )  # fmt: skip
        return onnx.load(path)


def _by_nncf(network: Any, batches: Sequence[np.ndarray]) -> Any:
    nncf = import_nncf()

    with quiet():
        return nncf.quantize(
            network, nncf.Dataset(batches, lambda batch: {IMAGES: batch}), subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
        )  # fmt: skip


def with_fused_gates(network: Any) -> Any:
    """A copy in which HardSigmoid is relu6(x + 3) / 6, the form that OpenVINO fuses into one layer (HSigmoid)."""
    from onnx import helper, numpy_helper

    network, nodes = _copy(network), []
    constants = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    for node in network.graph.node:
        if node.op_type != "HardSigmoid" or not _is_gate(node):
            nodes.append(node)
            continue
        shifted, clipped = (f"{node.output[0]}/{part}" for part in ("shifted", "clipped"))
        nodes += [
            helper.make_node("Add", [node.input[0], "gate/three"], [shifted], name=shifted),
            helper.make_node("Clip", [shifted, "gate/zero", "gate/six"], [clipped], name=clipped),
            helper.make_node("Mul", [clipped, "gate/sixth"], node.output, name=f"{node.output[0]}/scaled"),
        ]
    if len(nodes) > len(network.graph.node):
        del network.graph.node[:]
        network.graph.node.extend(nodes)
        for name, value in constants.items():
            network.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"gate/{name}"))
    return network


def _is_gate(node: Any) -> bool:
    """Whether it is clip(x / 6 + 1 / 2, 0, 1)."""
    from onnx import helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return bool(np.isclose(values.get("alpha", 0.2), 1 / 6) and np.isclose(values.get("beta", 0.5), 0.5))


def _copy(network: Any) -> Any:
    return type(network).FromString(network.SerializeToString())
