"""Initialization schemes of the reference implementations."""

from collections.abc import Callable

from torch import Tensor, nn


def _truncated(std: float) -> Callable[[Tensor], Tensor]:
    """TensorFlow's truncated normal: redrawn outside two standard deviations, `std` is that before truncation."""
    return lambda weight: nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


# scheme -> (convolutions, linear layers)
_SCHEMES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tf_slim": (_truncated(0.09), _truncated(0.09)),
    "tf_detection": (_truncated(0.03), _truncated(0.03)),
    "torchvision": (
        lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
        lambda weight: nn.init.normal_(weight, std=0.01),
    ),
    "torchvision_detection": (
        lambda weight: nn.init.normal_(weight, std=0.03),
        lambda weight: nn.init.normal_(weight, std=0.03),
    ),
}


def initialize(module: nn.Module, scheme: str | None) -> None:
    """Re-initialize all weights below `module`; biases 0, batch norm 1 and 0.

    `tf_slim` is the reference's trunk (truncated normal 0.09), `tf_detection` its whole detector (0.03), `torchvision`
    its trunk and classifier (Kaiming, fan out), `torchvision_detection` its extra layers and predictors (normal 0.03).
    """
    if scheme not in _SCHEMES:
        raise ValueError(f"unknown initialization {scheme!r}; choose one of {', '.join(_SCHEMES)}")
    conv_init, linear_init = _SCHEMES[scheme]
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            (conv_init if isinstance(layer, nn.Conv2d) else linear_init)(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()  # the running statistics too
