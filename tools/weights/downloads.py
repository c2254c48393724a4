"""`weights=torchvision` and `weights=timm/NAME`: published weights by name, downloaded once into torch's cache."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ...backbones.mobilenet_v2 import MobileNetV2
from ...backbones.mobilenet_v3 import LARGE, MobileNetV3
from ...backbones.timm_names import NETWORKS, OTHERS
from ...detection.anchors import AnchorLayout
from ...detection.network import SSDLite
from ...files import whole_file
from ...segmentation.network import LRASPP
from ..system.console import log
from .files import hash_in

_NAME = re.compile(r"(torchvision)(?:/(\w+))?|(timm)/([\w.]+)")


class Published(NamedTuple):
    """Where published weights are, and the name of their file."""

    source: str  # torchvision or timm
    url: str
    file: str


def is_published(weights: str) -> bool:
    """Whether this names published weights and is not a file."""
    return _NAME.fullmatch(weights) is not None and not Path(weights).is_file()


def find_published(model: nn.Module, weights: str) -> Published:
    """What `torchvision`, `torchvision/IMAGENET1K_V1`, `timm/mobilenetv3_large_100` or `timm/NAME.TAG` means here.

    Without a name, torchvision's are those that cover most of the model: its whole SSDLite or LR-ASPP if the model is
    one, otherwise its best ImageNet weights for the backbone.

    Raises:
        ValueError: there are no such weights.
    """
    match = _NAME.fullmatch(weights)
    assert match is not None
    if match[1]:
        url = _torchvision_url(model, match[2])
        return Published("torchvision", url, url.rpartition("/")[2])
    base, _, tag = match[4].partition(".")
    if base in OTHERS:
        raise ValueError(f"weights={weights}: timm's {base} {OTHERS[base]}: not supported here")
    if base not in NETWORKS:
        known = ", ".join(name for name, network in NETWORKS.items() if network.tag)
        raise ValueError(f"weights={weights}: unknown network; these timm weights are supported: {known}")
    tag = tag or NETWORKS[base].tag or ""
    if not tag:
        raise ValueError(f"weights={weights}: timm defines this network, but has published no weights for it")
    name = f"{base}.{tag}"
    return Published(
        "timm", f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors", f"{name}.safetensors"
    )


def _torchvision_url(model: nn.Module, wanted: str | None) -> str:
    from torchvision.models import get_model_weights  # takes a second

    builders = _torchvision_builders(model)
    if not builders:
        raise ValueError(
            "weights=torchvision: torchvision has published no weights for this network, only for MobileNetV2, "
            "MobileNetV3-Large and -Small of width 1, and SSDLite320 and LR-ASPP with MobileNetV3-Large. (Its MnasNet "
            "is B1, not A1.)"
        )
    kinds = [get_model_weights(builder) for builder in builders]
    if wanted is None:
        return kinds[0].DEFAULT.url  # pyright: ignore[reportAttributeAccessIssue]
    members = {name: member for kind in kinds for name, member in kind.__members__.items() if name != "DEFAULT"}
    if wanted not in members:
        raise ValueError(
            f"weights=torchvision/{wanted}: unknown weights; for this network, choose one of {', '.join(members)}"
        )
    return members[wanted].url


def _torchvision_builders(model: nn.Module) -> list[str]:
    """torchvision's builders for this network, or for a classifier with its backbone: the whole network first."""
    trunk = getattr(model, "backbone", model)
    if getattr(trunk, "width", None) != 1.0:
        return []
    if isinstance(trunk, MobileNetV2):
        return ["mobilenet_v2"]
    if not isinstance(trunk, MobileNetV3) or (trunk.blocks[-1].get_submodule("depthwise.conv").kernel_size != (5, 5)):
        return []  # minimalistic variants only have 3x3 kernels
    if len(trunk.blocks) != len(LARGE):
        return ["mobilenet_v3_small"]
    whole = []
    if isinstance(model, SSDLite) and model.anchor_layout == AnchorLayout.torchvision():
        whole = ["ssdlite320_mobilenet_v3_large"]
    elif isinstance(model, LRASPP) and model.taps[0] == "block4":
        whole = ["lraspp_mobilenet_v3_large"]
    return [*whole, "mobilenet_v3_large"]


def download(published: Published) -> Path:
    """The file in torch's cache (`$TORCH_HOME/hub/checkpoints`), downloaded if it is not there.

    Raises:
        ValueError: it cannot be downloaded; the message says which file to put where.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    if path.is_file():
        return path
    log.info("downloading %s to %s", published.url, path)
    try:
        with whole_file(path) as unfinished:  # several processes may start at the same time
            torch.hub.download_url_to_file(published.url, str(unfinished), hash_in(published.file))
    except (OSError, RuntimeError) as error:  # no network; wrong hash
        raise ValueError(
            f"{published.url} could not be downloaded ({error}). Download it on a machine with network access, put it "
            f"into {path.parent} as {published.file}, and run the same command again; or name the file: "
            f"weights=FOLDER/{published.file} weights_source={published.source}"
        ) from error
    return path
