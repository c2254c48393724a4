"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

import importlib
from typing import TYPE_CHECKING, Any

from . import dependencies, retired

if TYPE_CHECKING:
    from .tools.predicting.load import load
    from .tools.weights.load import load_weights

__version__ = "0.1.0"
__all__ = ["load", "load_weights"]
_ROOMS = {"load": "predicting", "load_weights": "weights"}
retired.install()
dependencies.install()


def __getattr__(name: str) -> Any:
    """Import `load` and `load_weights` (and with them torch and Hydra) on first use."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".tools.{_ROOMS[name]}.load", __name__), name)
