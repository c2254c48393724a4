"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def load(run: Any, *, checkpoint: str = "best", device: str = "cpu") -> Any:
    """The model of a training run, a `tools.inference.Predictor`: `load("runs/NAME")("photo.jpg").boxes`.

    Or an exported file in its own runtime: `load("model.onnx")`.
    """
    from .tools.inference import load as load_predictor  # torch and Hydra only once somebody asks for a model

    return load_predictor(run, checkpoint=checkpoint, device=device)
