"""`weights=torchvision` and `weights=timm/NAME`: published weights by name, downloaded once into torch's cache."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision.models import (
    MobileNet_V2_Weights,
    MobileNet_V3_Large_Weights,
    MobileNet_V3_Small_Weights,
    WeightsEnum,
)
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from ...backbones.mobilenet_v2 import MobileNetV2
from ...backbones.mobilenet_v3 import LARGE, MobileNetV3
from ...backbones.timm_names import NETWORKS, OTHERS
from ...detection.anchors import AnchorLayout
from ...detection.network import SSDLite
from ...segmentation.network import LRASPP
from ..system.console import log

_NAME = re.compile(r"(torchvision)(?:/(\w+))?|(timm)/([\w.]+)")


class Published(NamedTuple):
    """Where weights are, and the name of the file they become."""

    source: str  # torchvision or timm
    url: str
    file: str


def is_published(weights: str) -> bool:
    """Whether this names published weights, and is no file."""
    return _NAME.fullmatch(weights) is not None and not Path(weights).is_file()


def find_published(model: nn.Module, weights: str) -> Published:
    """What `torchvision`, `torchvision/IMAGENET1K_V1`, `timm/mobilenetv3_large_100` or `timm/NAME.TAG` means here.

    Without a name, torchvision's are those that fit most of the model: its whole SSDLite or LR-ASPP where the model is
    that, else its best ImageNet weights of the backbone.

    Raises:
        ValueError: there are none.
    """
    match = _NAME.fullmatch(weights)
    assert match is not None
    if match[1]:
        url = _torchvision(model, match[2]).url
        return Published("torchvision", url, url.rpartition("/")[2])
    base, _, tag = match[4].partition(".")
    if base in OTHERS:
        raise ValueError(f"weights={weights}: timm's {base} {OTHERS[base]}: no backbone here is it")
    if base not in NETWORKS:
        known = ", ".join(name for name, network in NETWORKS.items() if network.tag)
        raise ValueError(f"weights={weights}: no such network; of timm's, these have weights that fit: {known}")
    tag = tag or NETWORKS[base].tag or ""
    if not tag:
        raise ValueError(f"weights={weights}: timm describes this network but has published no weights for it")
    name = f"{base}.{tag}"
    return Published(
        "timm", f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors", f"{name}.safetensors"
    )


def _torchvision(model: nn.Module, wanted: str | None) -> WeightsEnum:
    kinds = _torchvision_kinds(model)
    if not kinds:
        raise ValueError(
            "weights=torchvision: it has published none for this network; it has MobileNetV2 and MobileNetV3-Large and "
            "-Small of width 1, SSDLite320 and LR-ASPP with MobileNetV3-Large. (Its MnasNet is B1, not A1.)"
        )
    if wanted is None:
        return kinds[0].DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
    members = {name: member for kind in kinds for name, member in kind.__members__.items() if name != "DEFAULT"}
    if wanted not in members:
        raise ValueError(f"weights=torchvision/{wanted}: for this network there are {', '.join(members)}")
    return members[wanted]


def _torchvision_kinds(model: nn.Module) -> list[type[WeightsEnum]]:
    trunk = getattr(model, "backbone", model)
    if getattr(trunk, "width", None) != 1.0:
        return []
    if isinstance(trunk, MobileNetV2):
        return [MobileNet_V2_Weights]
    if not isinstance(trunk, MobileNetV3) or (trunk.blocks[-1].get_submodule("depthwise.conv").kernel_size != (5, 5)):
        return []  # the minimalistic ones have 3x3 kernels only
    if len(trunk.blocks) != len(LARGE):
        return [MobileNet_V3_Small_Weights]
    whole: list[type[WeightsEnum]] = []
    if isinstance(model, SSDLite) and model.anchor_layout == AnchorLayout.torchvision():
        whole = [SSDLite320_MobileNet_V3_Large_Weights]
    elif isinstance(model, LRASPP) and model.taps[0] == "block4":
        whole = [LRASPP_MobileNet_V3_Large_Weights]
    return [*whole, MobileNet_V3_Large_Weights]


def download(published: Published) -> Path:
    """The file in torch's cache (`$TORCH_HOME/hub/checkpoints`), fetched if it is not there.

    Raises:
        ValueError: it cannot be fetched; the message says which file to put where.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    if path.is_file():
        return path
    told = re.search(r"-([0-9a-f]{8,})\.", published.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # several processes may start at once
    log.info("downloading %s to %s", published.url, path)
    try:
        torch.hub.download_url_to_file(published.url, str(temporary), told[1] if told else None)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # no network; another hash
        raise ValueError(
            f"{published.url} could not be downloaded ({error}). Get it where there is a network, put it into "
            f"{path.parent} as {published.file}, and give the same command; or name the file: "
            f"weights=FOLDER/{published.file} weights_source={published.source}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
