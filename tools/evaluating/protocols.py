"""The keys that say how a segmenter looks at an image: protocol, window, stride, scales, flip."""

from dataclasses import replace
from typing import Any

from ...segmentation.protocol import MultiView
from ..runs.loaded import LoadedRun


def asks_protocol(config: Any) -> bool:
    """Whether any of the keys is set."""
    return bool(
        config.protocol != "whole" or config.window or config.stride or list(config.scales) != [1.0] or config.flip
    )


def images_at_once(config: Any) -> int:
    """The batch size: full-size logits are held of one image at a time."""
    return 1 if asks_protocol(config) else config.batch_size


def with_protocol(run: LoadedRun, config: Any) -> LoadedRun:
    """The run with a network that looks as the keys say.

    Raises:
        ValueError: the run is no segmenter's, or the keys do not go together.
    """
    if not asks_protocol(config):
        return run
    if run.task.kind != "segmentation":
        raise ValueError(
            f"protocol, window, stride, scales and flip are of segmenters, and {run.path} is for {run.task.kind}: "
            "leave them out"
        )
    model = MultiView(
        run.task.model,
        align_corners=run.config.model.postprocess.align_corners,
        scales=list(config.scales),
        flip=config.flip,
        **_windows(config),
    )
    return replace(run, task=replace(run.task, model=model.eval()))


def _windows(config: Any) -> dict[str, Any]:
    if config.protocol not in ("whole", "sliding"):
        raise ValueError(f"protocol={config.protocol}: expected whole or sliding")
    if config.protocol == "whole":
        if config.window or config.stride:
            raise ValueError("window and stride are of protocol=sliding: set it, or leave them out")
        return {}
    if not config.window:
        raise ValueError("protocol=sliding needs window=[h,w] in pixels, such as the size of the training crops")
    window = list(config.window)
    return {"window": window, "stride": list(config.stride or [max(1, side * 2 // 3) for side in window])}
