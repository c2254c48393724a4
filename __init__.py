"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def load(run: Any, *, checkpoint: str = "best", device: str = "cpu", **options: Any) -> Any:
    """The model of a training run, a `tools.inference.Predictor`: `load("runs/NAME")("photo.jpg").boxes`.

    `optimize=True` makes it faster, `precision="bf16"` and `compile=True` beside that faster yet.
    """
    from .tools.inference import load as load_predictor  # torch and Hydra only once somebody asks for a model

    return load_predictor(run, checkpoint=checkpoint, device=device, **options)
