"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

from typing import TYPE_CHECKING, Any

from . import retired

if TYPE_CHECKING:
    from .tools.predicting.load import load
    from .tools.weights.load import load_weights

__version__ = "0.1.0"
__all__ = ["load", "load_weights"]
retired.install()


def __getattr__(name: str) -> Any:
    """Import `load` and `load_weights` (and with them torch and Hydra) on first use."""
    if name == "load":
        from .tools.predicting.load import load

        return load
    if name == "load_weights":
        from .tools.weights.load import load_weights

        return load_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
