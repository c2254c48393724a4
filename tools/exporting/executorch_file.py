"""ExecuTorch: lowered to XNNPACK, quantized by torchao's PT2E."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..predicting.attached import METADATA, attach
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun
from ..system.console import log, quiet
from .portable import example_input, whole_call


@dataclass(frozen=True)
class ExecuTorchWriter:
    """A .pte file, and the metadata attached."""

    run: LoadedRun
    raw: nn.Module  # the network alone, as it is or quantized

    def quantized(self, batches: Sequence[np.ndarray]) -> "ExecuTorchWriter":
        return replace(self, raw=quantize(self.raw, batches))

    def write(self, interface: Interface, path: Path, about: Mapping[str, Any]) -> list[Path]:
        path.write_bytes(lower(whole_call(self.run, interface, self.raw), interface))
        attach(path, {METADATA: json.dumps(about)})
        return [path]


def quantize(raw: nn.Module, batches: Sequence[np.ndarray]) -> nn.Module:
    """A raw network in eight bits, weights per channel; `batches` float32 [B, 3, h, w] in 0..255 show its ranges."""
    with quiet(), torch.no_grad():
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer  # pyright: ignore[reportMissingImports]
        from torchao.quantization.pt2e.quantize_pt2e import (  # pyright: ignore[reportMissingImports]
            convert_pt2e,
            prepare_pt2e,
        )

        quantizer = xnnpack_quantizer.XNNPACKQuantizer()
        quantizer.set_global(xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True))
        program = torch.export.export(raw, (torch.zeros(batches[0].shape),), strict=False).module()
        # Anchors are no output here, but assertions keep them; their float64 cannot be quantized.
        program.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))  # pyright: ignore
        program.recompile()  # pyright: ignore
        prepared = prepare_pt2e(program, quantizer)
        for batch in batches:
            prepared(torch.from_numpy(np.ascontiguousarray(batch)))
        return convert_pt2e(prepared)


def lower(call: nn.Module, interface: Interface) -> bytes:
    """The whole call as a program: XNNPACK computes what it can, ExecuTorch's own operators the rest."""
    log.info("lowering to ExecuTorch (%s outputs): a minute or more", interface.outputs)
    with quiet(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # pyright: ignore[reportMissingImports]
            XnnpackPartitioner,
        )
        from executorch.exir import (  # pyright: ignore[reportMissingImports]
            EdgeCompileConfig,
            to_edge_transform_and_lower,
        )

        program = torch.export.export(call, (example_input(interface),), strict=False)
        # The check would refuse operators that are not among ATen's core ones, such as those of quantization.
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False)
        )
        return bytes(lowered.to_executorch().buffer)
