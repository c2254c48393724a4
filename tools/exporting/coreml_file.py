"""Core ML: converted by coremltools, which needs no Mac; only a Mac or an iPhone runs the file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..predicting.interface import KEY, Interface
from ..runs.loaded import LoadedRun
from ..system.console import log, quiet
from .portable import raw_network, whole_call


@dataclass(frozen=True)
class CoreMLWriter:
    """An .mlpackage, a folder: photographs enter as images, and the network computes in float16.

    Post-processing stays in float32: areas of boxes are above float16's range.
    """

    run: LoadedRun

    def quantized(self, batches: Sequence[np.ndarray]) -> "CoreMLWriter":
        raise NotImplementedError  # its int8 is of weights only, which need no calibration

    def write(self, interface: Interface, path: Path, about: Mapping[str, Any]) -> list[Path]:
        log.info("converting to Core ML: half a minute or more")
        call = whole_call(self.run, interface, raw_network(self.run, interface))
        with quiet(), torch.no_grad():
            model = convert(
                ChannelsFirst(call) if interface.is_channels_last else call, interface, list(about["outputs"])
            )
            if about["precision"] == "int8_weights":
                model = with_int8_weights(model)
            model.user_defined_metadata[KEY] = json.dumps(about)
            model.save(str(path))
        return [path]


class ChannelsFirst(nn.Module):
    """A call that takes a photograph [1, H, W, 3], given the [1, 3, H, W] that Core ML makes of an image."""

    def __init__(self, call: nn.Module) -> None:
        super().__init__()
        self.call = call

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.call(images.permute(0, 2, 3, 1))


def convert(call: nn.Module, interface: Interface, names: Sequence[str]) -> Any:
    """The whole call as a Core ML model, whose outputs have `names`."""
    import coremltools as ct  # pyright: ignore[reportMissingImports]

    assert interface.input_size is not None
    shape = (interface.batch or 1, 3, *interface.input_size)
    program = torch.export.export(call, (torch.zeros(shape),), strict=False).run_decompositions({})
    with_integer_division(program)
    if interface.input == "float":
        inputs = [ct.TensorType(name=interface.name, shape=shape, dtype=np.float32)]
    else:
        inputs = [ct.ImageType(name=interface.name, shape=shape, color_layout=ct.colorlayout.RGB)]
    dtypes = {name: None if name == "label_map" else np.float32 for name in names}  # its own: it is of integers
    return ct.convert(
        program, inputs=inputs, outputs=[ct.TensorType(name=name, dtype=dtype) for name, dtype in dtypes.items()],
        convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.transform.FP16ComputePrecision(op_selector=Network()),
    )  # fmt: skip


def with_integer_division(program: Any) -> None:
    """Make quotients of integers integers again: coremltools has them as floats, and refuses those as indices."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.div.Tensor_mode and not node.meta["val"].is_floating_point():
            with graph.inserting_after(node):
                whole = graph.call_function(torch.ops.aten._to_copy.default, (node,), {"dtype": torch.int32})
            whole.meta = dict(node.meta)
            node.replace_all_uses_with(whole, delete_user_cb=lambda user, whole=whole: user is not whole)
    program.graph_module.recompile()


@dataclass
class Network:
    """Tells operations of the network from those after it: a convolution follows, or it is one itself."""

    names: set[str] = field(default_factory=set)

    def __call__(self, operation: Any) -> bool:
        if not self.names:
            for one in reversed(operation.enclosing_block.operations):
                users = (user for output in one.outputs for user in output.child_ops)
                if one.op_type == "conv" or any(user.name in self.names for user in users):
                    self.names.add(one.name)
        return operation.name in self.names


def with_int8_weights(model: Any) -> Any:
    """The weights of convolutions in eight bits, per channel; anchors, which are constants, too, stay as they are."""
    from coremltools.optimize import coreml  # pyright: ignore[reportMissingImports]

    weights = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", granularity="per_channel", weight_threshold=512)
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(op_type_configs={"conv": weights}))
