"""Initialization schemes of the reference implementations."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from .checks import check_choice


def _truncated(std: float) -> Callable[[Tensor], Tensor]:
    """TensorFlow's truncated normal: redrawn outside two standard deviations, `std` is that before truncation."""
    return partial(nn.init.trunc_normal_, std=std, a=-2 * std, b=2 * std)


# scheme -> (convolutions, linear layers)
_SCHEMES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tf_slim": (_truncated(0.09), _truncated(0.09)),
    "tf_detection": (_truncated(0.03), _truncated(0.03)),
    "torchvision": (partial(nn.init.kaiming_normal_, mode="fan_out"), partial(nn.init.normal_, std=0.01)),
    "torchvision_detection": (partial(nn.init.normal_, std=0.03), partial(nn.init.normal_, std=0.03)),
}


def initialize(module: nn.Module, scheme: str | None) -> None:
    """Re-initialize all weights below `module`; biases 0, batch norm 1 and 0.

    `tf_slim` is the reference's trunk (truncated normal 0.09), `tf_detection` its whole detector (0.03), `torchvision`
    its trunk and classifier (Kaiming, fan out), `torchvision_detection` its extra layers and predictors (normal 0.03).
    """
    check_choice("init", scheme, _SCHEMES)
    assert scheme is not None
    conv_init, linear_init = _SCHEMES[scheme]
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            (conv_init if isinstance(layer, nn.Conv2d) else linear_init)(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()  # the running statistics too
