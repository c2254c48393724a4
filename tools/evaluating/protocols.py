"""The keys for how a segmentation network evaluates an image: protocol, window, stride, scales, flip."""

from dataclasses import replace
from typing import Any

from ...conf.schema import EvaluateConfig
from ...segmentation.protocol import MultiView
from ..runs.loaded import LoadedRun

KEYS = ("protocol", "window", "stride", "scales", "flip")


def asks_protocol(settings: EvaluateConfig) -> bool:
    """Whether any of the keys is set."""
    usual = EvaluateConfig()
    return any(getattr(settings, key) != getattr(usual, key) for key in KEYS)


def images_at_once(settings: EvaluateConfig) -> int:
    """The batch size; with a protocol it is 1, because full-size logits are kept in memory."""
    return 1 if asks_protocol(settings) else settings.batch_size


def with_protocol(run: LoadedRun, settings: EvaluateConfig) -> LoadedRun:
    """The run with a network that follows the keys.

    Raises:
        ValueError: the run is not for segmentation, or the keys conflict.
    """
    if not asks_protocol(settings):
        return run
    if run.task.kind != "segmentation":
        raise ValueError(
            f"protocol, window, stride, scales and flip are for segmentation, but {run.path} is for {run.task.kind}: "
            "drop them"
        )
    model = MultiView(
        run.task.model,
        align_corners=run.config.model.postprocess.align_corners,
        scales=list(settings.scales),
        flip=settings.flip,
        **_windows(settings),
    )
    return replace(run, task=replace(run.task, model=model.eval()))


def _windows(settings: EvaluateConfig) -> dict[str, Any]:
    if settings.protocol not in ("whole", "sliding"):
        raise ValueError(f"protocol={settings.protocol}: expected whole or sliding")
    if settings.protocol == "whole":
        if settings.window or settings.stride:
            raise ValueError("window and stride need protocol=sliding: set it, or drop them")
        return {}
    if not settings.window:
        raise ValueError("protocol=sliding needs window=[h,w] in pixels, such as the size of the training crops")
    window = list(settings.window)
    return {"window": window, "stride": list(settings.stride or [max(1, side * 2 // 3) for side in window])}
