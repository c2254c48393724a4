"""Conventions in which implementations of the same architecture differ."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

from .layers import ConvNormAct

Network = TypeVar("Network", bound=type)


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """Batch norm's constants and the initialization (`init.initialize`)."""

    bn_eps: float = 1e-3
    bn_momentum: float = 0.003
    init: str | None = "tf_slim"

    def conv(self) -> Callable[..., ConvNormAct]:
        """`ConvNormAct` under these conventions."""
        return partial(ConvNormAct, bn_eps=self.bn_eps, bn_momentum=self.bn_momentum)


@dataclass(frozen=True, kw_only=True)
class PaddedConventions(Conventions):
    """Conventions of networks with 3x3 convolutions; `padding="same"` is what weights trained in TensorFlow need."""

    padding: str = "symmetric"

    def conv(self) -> Callable[..., ConvNormAct]:
        return partial(super().conv(), padding=self.padding)


TF_SLIM = PaddedConventions()


def flat_keywords(network: Network) -> Network:
    """Class decorator: the constructor also accepts the fields of `conventions` as its own keywords.

    Configurations, checkpoints and callers use flat names: `bn_eps=1e-5` is `conventions=Conventions(bn_eps=1e-5)`.
    """
    build = network.__init__
    default = inspect.signature(build).parameters["conventions"].default
    names = [field.name for field in fields(default)]

    @functools.wraps(build)
    def init(self: Any, *args: Any, conventions: Any = default, **keywords: Any) -> None:
        flat = {name: keywords.pop(name) for name in names if name in keywords}
        build(self, *args, conventions=replace(conventions, **flat), **keywords)

    network.__init__ = init
    return network
