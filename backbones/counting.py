"""Parameters and multiply-adds of any model, counted like the MobileNetV3 paper."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .layers import SqueezeExcite

_CONVS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Counts:
    """A model's parameters, and its multiply-adds for one batch."""

    params: int  # all, including batch norm's scale and shift
    conv_params: int  # weights and biases of convolutions and linear layers only, as in the paper's Table 6
    conv_madds: int  # multiply-adds of convolutions and linear layers
    madds: int  # plus 2 per output element of squeeze-and-excite and h-swish: the paper's numbers


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer; `params` are listed at the first call."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int
    madds: int


def count(model: nn.Module, images: Tensor) -> Counts:
    """Count one run of `model(images)` in evaluation mode, of the whole batch; the model is unchanged afterwards."""
    calls = _calls(model, images)
    layers = [layer for layer in model.modules() if isinstance(layer, _CONVS)]
    return Counts(
        params=sum(parameter.numel() for parameter in model.parameters()),
        conv_params=sum(parameter.numel() for layer in layers for parameter in layer.parameters()),
        conv_madds=sum(row.madds for layer, row in calls if isinstance(layer, _CONVS)),
        madds=sum(row.madds for _, row in calls),
    )


def layer_table(model: nn.Module, images: Tensor) -> list[LayerRow]:
    """List the layers in the order in which one run of `model(images)` calls them, as `count` counts them."""
    return [row for _, row in _calls(model, images)]


def _calls(model: nn.Module, images: Tensor) -> list[tuple[nn.Module, LayerRow]]:
    """Run `model(images)` once and list the calls of layers that return a tensor.

    A layer is a module without children, or a squeeze-and-excite, which does more than its children.
    """
    calls: list[tuple[nn.Module, LayerRow]] = []
    listed: set[nn.Module] = set()

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor):
            own = () if layer in listed else layer.parameters(recurse=False)
            params, madds = sum(parameter.numel() for parameter in own), _madds(layer, inputs, output)
            calls.append((layer, LayerRow(name, type(layer).__name__, tuple(output.shape), params, madds)))
            listed.add(layer)

    modes = {module: module.training for module in model.modules()}
    handles = [
        layer.register_forward_hook(partial(record, name))
        for name, layer in model.named_modules()
        if isinstance(layer, SqueezeExcite) or not any(True for _ in layer.children())
    ]
    try:
        model.eval()
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return calls


def _madds(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Multiply-adds of the layer itself; a squeeze-and-excite's convolutions count separately."""
    if isinstance(layer, _CONVS):
        # A transposed convolution applies its whole kernel at each pixel of the input.
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        return places.numel() * layer.weight[0].numel()
    return 2 * output.numel() if isinstance(layer, SqueezeExcite | nn.Hardswish) else 0
