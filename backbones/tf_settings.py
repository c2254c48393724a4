"""Checks that a trunk matches the settings of TensorFlow's weights, which also load into trunks that do not."""

from torch import nn

from .blocks import BlockTrunk, InvertedResidual
from .classifier import IMAGENET_MEAN, IMAGENET_STD
from .layers import Normalize, SamePaddedConv2d
from .mnasnet import MnasNet
from .weights import picture_settings, v3_settings

BN_EPS = 1e-3


def trunk_settings(trunk: nn.Module, *, padded_to_corners: bool = False) -> list[str]:
    """The keys to set, as `key=value`, to reproduce TensorFlow's results; none if they are already set.

    Args:
        padded_to_corners: the inputs measure a multiple of the output stride plus one: both paddings are then the same.
    """
    keys = []
    if not padded_to_corners and not is_same_padded(trunk):
        keys.append("backbone.padding=same")
    keys += v3_settings(trunk, gate="tf")
    if not has_eps(trunk, BN_EPS):
        keys.append(f"backbone.bn_eps={BN_EPS}")
    if isinstance(trunk, BlockTrunk) and _dilates_too_early(trunk):
        keys.append("backbone.atrous=reference")
    if isinstance(trunk, MnasNet) and trunk.blocks[0].residual:
        keys.append("backbone.first_residual=false")  # only timm's Small adds the input there
    return keys


def normalize_settings(trunk: nn.Module, normalize: Normalize) -> list[str]:
    """The keys for mean and standard deviation: images from -1 to 1, except MnasNet's, which are ImageNet's."""
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if isinstance(trunk, MnasNet) else ((0.5,) * 3, (0.5,) * 3)
    return picture_settings(normalize, mean=mean, std=std)


def is_same_padded(module: nn.Module) -> bool:
    """Whether every strided convolution larger than 1x1 pads like TensorFlow."""
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return all(isinstance(conv, SamePaddedConv2d) for conv in convs if conv.stride[0] > 1 and conv.kernel_size[0] > 1)


def has_eps(module: nn.Module, eps: float) -> bool:
    return all(norm.eps == eps for norm in module.modules() if isinstance(norm, nn.BatchNorm2d))


def _dilates_too_early(trunk: BlockTrunk) -> bool:
    """Whether the block that loses its stride already has the doubled rate, torchvision's rule."""
    number = int(trunk.tap_points["c4_expansion"].removeprefix("block").partition(".")[0])
    block = trunk.blocks[number - 1]
    assert isinstance(block, InvertedResidual)
    return block.depthwise.conv.dilation[0] > max(1, 16 // trunk.feature_specs["c5"].stride)
