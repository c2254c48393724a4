"""torchvision's own models with the weights of a run, for comparison."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...detection.network import SSDLite
from ...detection.postprocess import Postprocess
from ...detection.weights import ssdlite_from_torchvision
from ...detection.weights import torchvision_settings as ssdlite_settings
from ...segmentation.network import LRASPP
from ...segmentation.weights import lraspp_from_torchvision
from ...segmentation.weights import torchvision_settings as lraspp_settings
from ..runs.loaded import LoadedRun

Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
_NEEDED = "peer=torchvision measures torchvision's own network"


def make_peer(run: LoadedRun, *, training: bool = False) -> nn.Module:
    """torchvision's SSDLite or LR-ASPP with the same results as this run, on the run's device.

    Args:
        training: for training steps: pre- and post-processing need not match.

    Raises:
        ValueError: the run's network is not one of torchvision's, or has different settings; the keys are named.
    """
    model = run.task.model
    build = {SSDLite: _ssdlite, LRASPP: _lraspp}.get(type(model))
    if build is None:
        raise ValueError(
            f"{_NEEDED}, which {type(model).__name__} is not: choose model=ssdlite_torchvision or lraspp_torchvision, "
            "or peer=null"
        )
    peer, rename, settings = build(run, training)
    if settings:
        raise ValueError(f"{_NEEDED}, which has {', '.join(settings)}: set these, or peer=null")
    carry_over(model, peer, rename)
    return peer.to(next(model.parameters()).device).train(training)


def _ssdlite(run: LoadedRun, training: bool) -> tuple[nn.Module, Rename, list[str]]:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model, post, data = cast(SSDLite, run.task.model), cast(Postprocess, run.task.postprocess), run.config.data
    settings = ssdlite_settings(model)
    if data.resize != "stretch" and not training:
        settings.append("data.resize=stretch")
    theirs = Postprocess.torchvision()
    for key in () if training else ("activation", "max_per_class", "clip", "max_log_size", "max_candidates"):
        if getattr(post, key) != getattr(theirs, key):
            settings.append(f"model.postprocess.{key}={getattr(theirs, key)}")
    if settings:
        return nn.Module(), ssdlite_from_torchvision, settings
    peer = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=run.task.labels.num_classes + 1, score_thresh=post.min_score,
        nms_thresh=post.max_iou, detections_per_img=post.max_detections, topk_candidates=post.top_k or 10**9,
        image_mean=list(model.normalize.constants["mean"]), image_std=list(model.normalize.constants["std"]),
    )  # fmt: skip
    height, width = data.input_size if training else data.eval_size
    peer.transform.fixed_size = (int(width), int(height))
    return peer, ssdlite_from_torchvision, []


def _lraspp(run: LoadedRun, training: bool) -> tuple[nn.Module, Rename, list[str]]:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    settings = lraspp_settings(cast(LRASPP, run.task.model))
    if run.config.data.resize not in ("none", "stretch") and not training:
        settings.append("data.resize=stretch (or none with data.eval_size=null)")
    peer = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=run.task.labels.num_classes)
    return peer, lraspp_from_torchvision, settings


def carry_over(model: nn.Module, peer: nn.Module, rename: Rename) -> None:
    """Copy the weights of `model` into `peer`: the inverse of an importer's `rename`.

    Raises:
        ValueError: shapes differ, or one of them has an additional tensor.
    """
    theirs, ours = peer.state_dict(), model.state_dict()
    names = {id(tensor): name for name, tensor in theirs.items()}
    pairs = {names[id(tensor)]: name for name, tensor in rename(theirs).items()}  # theirs -> ours
    lacking = [name for name in pairs.values() if name not in ours]
    lacking += [name for name in ours if name not in set(pairs.values())]
    wrong = [name for other, name in pairs.items() if name in ours and ours[name].shape != theirs[other].shape]
    if lacking or wrong:
        what = f"{wrong[0]} is {list(ours[wrong[0]].shape)}" if wrong else f"only one of the two has {lacking[0]}"
        raise ValueError(
            f"{_NEEDED}, whose layers differ ({what}): it has backbone.width=1, and backbone.reduced=detection for "
            "SSDLite or backbone.reduced=null for LR-ASPP; set these, or peer=null"
        )
    peer.load_state_dict({other: ours[name] for other, name in pairs.items()})


def normalization(run: LoadedRun) -> tuple[Tensor, Tensor]:
    """Mean and std [1, 3, 1, 1] of a segmentation preset, for images in 0..1."""
    constants = cast(Any, run.task.model).normalize.constants
    device = next(run.task.model.parameters()).device
    mean, std = (torch.tensor(constants[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))
    return mean, std
