"""A run's network as every converter takes it: tensors in and out, and no operator of its own."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones.layers import Normalize
from ...detection.exported import PortableDetector
from ..predicting.interface import RAW_NAMES, Interface, RawNetwork, example_outputs
from ..runs.loaded import LoadedRun
from .mediapipe import mediapipe_outputs
from .torch_file import WholeCall


class MultiplyAdd(nn.Module):
    """`Normalize` from two operators: Core ML has no addcmul."""

    scale: Tensor
    shift: Tensor

    def __init__(self, normalize: Normalize) -> None:
        super().__init__()
        self.register_buffer("scale", normalize.scale)
        self.register_buffer("shift", normalize.shift)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def raw_network(run: LoadedRun, interface: Interface) -> nn.Module:
    """Images float32 [B, 3, h, w] in 0..255 to the tensors of RAW_NAMES; a copy on the CPU, in evaluation mode."""
    network = copy.deepcopy(RawNetwork(run.task.model, interface.kind)).cpu().eval().requires_grad_(False)
    network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, Normalize):
                setattr(module, name, MultiplyAdd(child))
    return network


class Completed(nn.Module):
    """A raw network (as it is, or quantized) whose outputs are those that post-processing reads."""

    def __init__(self, raw: nn.Module, run: LoadedRun, interface: Interface) -> None:
        super().__init__()
        self.raw = raw
        self.names = RAW_NAMES[interface.kind]
        found: dict[str, Any] = example_outputs(run, interface)
        # Not computed in the graph, where quantizers would take them for activations.
        self.anchors = nn.Buffer(found["anchors"].cpu().float()) if "anchors" in found else None
        self.logits_size = found.get("logits_size")

    def forward(self, images: Tensor) -> dict[str, Any]:
        outputs: dict[str, Any] = dict(zip(self.names, self.raw(images), strict=True))
        if self.anchors is not None:
            outputs["anchors"] = self.anchors
        if self.logits_size is not None:
            outputs["logits_size"] = self.logits_size
        return outputs


def example_input(interface: Interface) -> Tensor:
    """Zeros of the one shape that a file takes, to trace it with."""
    shape = [side for side in interface.shape if isinstance(side, int)]
    return torch.zeros(shape, dtype=getattr(torch, interface.dtype))


def whole_call(run: LoadedRun, interface: Interface, raw: nn.Module) -> WholeCall:
    """From the input to the outputs around a raw network."""
    network: nn.Module = Completed(raw, run, interface)
    if interface.outputs == "mediapipe":
        network = mediapipe_outputs(network, run.task.postprocess)
    return WholeCall(run, interface, network=network, detector=PortableDetector)
