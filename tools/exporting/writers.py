"""One writer per format: it holds a run's network, as it is or quantized, and writes files with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..predicting.adapters import openvino_core
from ..predicting.checksum import add_checksum
from ..predicting.interface import EXTRA_FILE, KEY, Interface
from ..runs.loaded import LoadedRun
from ..system.packages import import_openvino
from .coreml_file import CoreMLWriter
from .executorch_file import ExecuTorchWriter
from .litert_file import LiteRTWriter
from .onnx_file import build_onnx, network_proto
from .portable import raw_network
from .quantize import quantized, with_fused_gates
from .torch_file import build_program

About = Mapping[str, Any]


class Writer(Protocol):
    """Writes a run's files in one format."""

    def quantized(self, batches: Sequence[np.ndarray]) -> "Writer":
        """A writer of the network in int8; `batches` float32 [B, 3, h, w] in 0..255 show the ranges of its values."""
        ...

    def write(self, interface: Interface, path: Path, about: About) -> list[Path]:
        """Write a file in the precision that its metadata `about` names; all the files that it consists of."""
        ...


@dataclass(frozen=True)
class GraphWriter:
    """ONNX and OpenVINO: one graph around the network's."""

    run: LoadedRun
    network: Any
    format: str

    def quantized(self, batches: Sequence[np.ndarray]) -> "GraphWriter":
        return replace(self, network=quantized(self.network, batches, format=self.format))

    def write(self, interface: Interface, path: Path, about: About) -> list[Path]:
        # Third-party tools look for the last two.
        entries = {KEY: json.dumps(about), "task": about["task"], "classes": json.dumps(about["classes"])}
        channels_last = self.format == "onnx"
        model = build_onnx(self.run, self.network, interface, channels_last=channels_last, metadata=entries)
        if self.format == "onnx":
            import onnx

            onnx.save(model, path)
            add_checksum(path)
            return [path]
        converted = openvino_core().read_model(model.SerializeToString())
        for key, value in entries.items():
            converted.set_rt_info(value, ["pocketvision", key])
        import_openvino().save_model(converted, path, compress_to_fp16=about["precision"] == "fp16")
        add_checksum(path)
        return [path, path.with_suffix(".bin")]


@dataclass(frozen=True)
class ProgramWriter:
    """torch.export: a program."""

    run: LoadedRun

    def quantized(self, batches: Sequence[np.ndarray]) -> Writer:
        raise NotImplementedError  # no such precision

    def write(self, interface: Interface, path: Path, about: About) -> list[Path]:
        program = build_program(self.run, interface)
        program.example_inputs = None  # they would be a pickle in the file
        torch.export.save(program, path, extra_files={EXTRA_FILE: json.dumps(about)})
        return [path]


def make_writer(format: str, run: LoadedRun, interface: Interface) -> Writer:
    """The writer of a format."""
    if format == "torch_export":
        return ProgramWriter(run)
    if format == "litert":
        return LiteRTWriter(run)
    if format == "coreml":
        return CoreMLWriter(run)
    if format == "executorch":
        return ExecuTorchWriter(run, raw_network(run, interface))
    network = network_proto(run, interface)
    if run.quantized and format == "openvino":
        network = with_fused_gates(network)
    return GraphWriter(run, network, format)
