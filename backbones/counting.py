"""Parameters and multiply-adds of any model, counted like the MobileNetV3 paper."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


def layer_madds(layer: nn.Module, output_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the layer itself; a squeeze-and-excite's convolutions count separately."""
    if isinstance(layer, nn.ConvTranspose2d):
        return output_shape[0] * _input_pixels(layer, output_shape) * layer.weight.numel()
    if isinstance(layer, _CONVS):
        return math.prod(output_shape) * layer.weight[0].numel()
    return 2 * math.prod(output_shape) if isinstance(layer, SqueezeExcite | nn.Hardswish) else 0


def _input_pixels(layer: nn.ConvTranspose2d, output_shape: tuple[int, ...]) -> int:
    """Pixels of the input map; a transposed convolution applies its whole kernel at each of them."""
    geometry = zip(
        output_shape[2:],
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.dilation,
        strict=True,
    )
    return math.prod(
        (side + 2 * int(padding) - extra - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel, stride, padding, extra, dilation in geometry
    )


def count(model: nn.Module, images: Tensor) -> Counts:
    """Count one run of `model(images)` in evaluation mode, of the whole batch; the model is unchanged afterwards."""
    calls = [(layer, layer_madds(layer, shape)) for _, layer, shape in layer_calls(model, images)]
    layers = [layer for layer in model.modules() if isinstance(layer, _CONVS)]
    return Counts(
        params=sum(parameter.numel() for parameter in model.parameters()),
        conv_params=sum(parameter.numel() for layer in layers for parameter in layer.parameters()),
        conv_madds=sum(madds for layer, madds in calls if isinstance(layer, _CONVS)),
        madds=sum(madds for _, madds in calls),
    )


def layer_table(model: nn.Module, images: Tensor) -> list[LayerRow]:
    """List the layers in the order in which one run of `model(images)` calls them, as `count` counts them."""
    rows, seen = [], set()
    for name, layer, shape in layer_calls(model, images):
        params = sum(parameter.numel() for parameter in layer.parameters(recurse=False)) if name not in seen else 0
        seen.add(name)
        rows.append(LayerRow(name, type(layer).__name__, shape, params, layer_madds(layer, shape)))
    return rows


def layer_calls(model: nn.Module, images: Tensor) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Run `model(images)` once; return (name, layer, output shape) of each call of a layer that returns a tensor.

    A layer is a module without children, or a squeeze-and-excite, which does more than its children.
    """
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def watch(name: str, layer: nn.Module) -> Callable[..., None]:
        def hook(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                calls.append((name, layer, tuple(output.shape)))

        return hook

    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, SqueezeExcite) or not any(True for _ in layer.children())
    ]
    handles = [layer.register_forward_hook(watch(name, layer)) for name, layer in layers]
    try:
        with evaluating(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set every module to evaluation mode, and restore each module's mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
