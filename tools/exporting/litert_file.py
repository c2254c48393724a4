"""LiteRT (TensorFlow Lite): converted by litert-torch, quantized by ai-edge-quantizer."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..predicting.attached import METADATA, attach
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun
from ..system.console import log, quiet
from .mediapipe import LABELS, labels, with_metadata
from .portable import example_input, raw_network, whole_call
from .tflite_metadata import MODEL, packed

NETWORK = "RawNetwork"  # in the names of the tensors of the network alone, without pre- and post-processing


@dataclass(frozen=True)
class LiteRTWriter:
    """A .tflite file: the input as uint8 [B, h, w, 3], and the metadata attached."""

    run: LoadedRun
    batches: Sequence[np.ndarray] | None = None  # that show an int8 network its ranges
    converted: dict[Interface, bytes] = field(default_factory=dict)  # float files: conversion takes most of the time

    def quantized(self, batches: Sequence[np.ndarray]) -> "LiteRTWriter":
        return replace(self, batches=batches)

    def write(self, interface: Interface, path: Path, about: Mapping[str, Any]) -> list[Path]:
        if interface not in self.converted:
            self.converted[interface] = convert(self.run, interface)
        content = self.converted[interface]
        if about["precision"] != "fp32":
            content = quantize(content, about["precision"], self.batches, interface)
        content, texts = with_short_names(content), {}
        if interface.outputs == "mediapipe":
            content, texts = with_metadata(content, about), {LABELS: labels(about)}
        path.write_bytes(content)
        delegated = {"partitions": count_partitions(path)}
        attach(path, {**texts, METADATA: json.dumps({**about, **delegated})}, compress=not texts)
        return [path]


def convert(run: LoadedRun, interface: Interface) -> bytes:
    """The whole call as a float32 .tflite."""
    import litert_torch  # pyright: ignore[reportMissingImports]

    log.info("converting to LiteRT (%s outputs): half a minute or more", interface.outputs)
    call = whole_call(run, interface, raw_network(run, interface)).eval()
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
        path = Path(folder, "float32.tflite")
        litert_torch.convert(call, (example_input(interface),)).export(str(path))
        return path.read_bytes()


def quantize(content: bytes, precision: str, batches: Sequence[np.ndarray] | None, interface: Interface) -> bytes:
    """A float32 file in fp16, int8 or int8_weights.

    int8 takes the network only, per channel. Its hard-swishes stay in floating point: XNNPACK, which computes the rest,
    leaves those of eight bits to other operators, and every gap between its parts costs time.
    """
    from ai_edge_quantizer import qtyping  # pyright: ignore[reportMissingImports]
    from ai_edge_quantizer.algorithm_manager import AlgorithmName  # pyright: ignore[reportMissingImports]
    from ai_edge_quantizer.quantizer import Quantizer  # pyright: ignore[reportMissingImports]

    operation = qtyping.TFLOperationName
    quantizer, calibration = Quantizer(content), None
    if precision == "fp16":
        quantizer.add_weight_only_config(".*", operation.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    elif precision == "int8_weights":
        quantizer.add_weight_only_config(NETWORK, operation.ALL_SUPPORTED, 8)
    else:
        assert batches is not None
        quantizer.add_static_config(NETWORK, operation.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        for kept in (operation.HARD_SWISH, operation.INPUT, operation.OUTPUT):
            quantizer.update_quantization_recipe(".*", kept, algorithm_key=AlgorithmName.NO_QUANTIZE)
        inputs = [{"args_0": as_input(batch, interface)} for batch in batches]  # read more than once
        with quiet():
            calibration = quantizer.calibrate({"serving_default": inputs}, num_threads=torch.get_num_threads())
    with quiet():
        return bytes(quantizer.quantize(calibration, enable_progress_report=False).quantized_model)


def with_short_names(content: bytes) -> bytes:
    """The file with the last part of every tensor's name: whole ones, with every module's path, are a tenth of it."""
    from ai_edge_litert.tools import flatbuffer_utils  # pyright: ignore[reportMissingImports]

    model = flatbuffer_utils.read_model_from_bytearray(content)
    for graph in model.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in outer:
                tensor.name = tensor.name.rstrip(b";").rpartition(b"/")[2]
    return packed(model, MODEL)


def as_input(batch: np.ndarray, interface: Interface) -> np.ndarray:
    """Images of the network's size, float32 [B, 3, h, w], as the file takes them."""
    images = batch.transpose(0, 2, 3, 1)
    if interface.input_size != interface.network_size:
        assert interface.input_size is not None
        height, width = interface.input_size
        images = np.stack([cv2.resize(image, (width, height)) for image in images])
    if interface.dtype == "float32":
        return np.ascontiguousarray(images / np.float32(255))
    return np.ascontiguousarray(images.round().astype(np.uint8))


def count_partitions(path: Path) -> int:
    """Into how many parts XNNPACK and the other operators divide the network; 1 is fastest."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())
