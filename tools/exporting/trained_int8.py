"""A network that was trained in eight bits, in ONNX: its values pass QuantizeLinear and DequantizeLinear."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..quantizing.fake import FakeQuantize
from ..quantizing.placement import inputs_of


class QuantizeDequantize(nn.Module):
    """An activation through both operators; in eight bits between them."""

    def __init__(self, fake: FakeQuantize) -> None:
        super().__init__()
        self.scale, self.zero_point, self.attributes = _constants(fake)

    def forward(self, x: Tensor) -> Tensor:
        steps = _operator("QuantizeLinear", (x, self.scale, self.zero_point), self.zero_point.dtype, x, self.attributes)
        return _operator("DequantizeLinear", (steps, self.scale, self.zero_point), x.dtype, x, self.attributes)


class Dequantize(nn.Module):
    """A filter, which the file has in eight bits."""

    def __init__(self, fake: FakeQuantize, weight: Tensor) -> None:
        super().__init__()
        self.scale, self.zero_point, self.attributes = _constants(fake)
        self.steps = nn.Buffer(fake.steps(weight).to(self.zero_point.dtype))

    def forward(self, x: Tensor) -> Tensor:
        inputs = (self.steps, self.scale, self.zero_point)
        return _operator("DequantizeLinear", inputs, torch.float32, self.steps, self.attributes)


def _constants(fake: FakeQuantize) -> tuple[nn.Buffer, nn.Buffer, dict[str, Any]]:
    scale, zero_point = fake.scale.detach(), fake.zero_point
    if fake.axis is None:
        scale, zero_point = scale[0], zero_point[0]
    signed = fake.low < 0
    if not signed and zero_point.any():  # the same steps, from -128 on
        signed, zero_point = True, zero_point - 128
    dtype = torch.int8 if signed else torch.uint8
    attributes: dict[str, Any] = {} if fake.axis is None else {"axis": fake.axis}
    return nn.Buffer(scale.clone()), nn.Buffer(zero_point.to(dtype)), attributes


def _operator(
    name: str, inputs: tuple[Tensor, ...], dtype: torch.dtype, like: Tensor, attributes: dict[str, Any]
) -> Tensor:
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=like.shape)


@torch.no_grad()
def exportable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose quantizers become ONNX's operators when torch exports it."""
    model = copy.deepcopy(model).cpu().eval()
    inputs = inputs_of(model)
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, FakeQuantize):
                value = inputs[child]
                new = Dequantize(child, value) if isinstance(value, nn.Parameter) else QuantizeDequantize(child)
                setattr(module, name, new)
    return model
