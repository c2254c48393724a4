"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tools.inference import load
    from .tools.weights import load_weights

__version__ = "0.1.0"
__all__ = ["load", "load_weights"]


def __getattr__(name: str) -> Any:
    """`load` and `load_weights` with torch and Hydra, only once somebody asks for them."""
    if name == "load":
        from .tools.inference import load

        return load
    if name == "load_weights":
        from .tools.weights import load_weights

        return load_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
