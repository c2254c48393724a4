"""timm's networks are ours: names and shapes by pinned lists, outputs where timm is installed."""

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from pocketvision.backbones.blocks import BlockTrunk
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.timm_names import (
    NETWORKS,
    OTHERS,
    classifier_from_timm,
    conventions,
    from_timm,
    mean_std,
    settings,
)
from pocketvision.backbones.weights import load_strict
from torch import Tensor

FAST = "torchvision_detection"  # of the initializations
V3, MNASNET = partial(MobileNetV3, "small"), partial(MnasNet, "small")
# Names and shapes of timm 1.0.31: {network: [[name, shape], ...]}, without the counters of batches.
PINNED: dict[str, list[tuple[str, list[int]]]] = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "assets" / "names" / "timm.json.gz").read_bytes())
)
IMAGES = torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(1))


def pinned_state(name: str) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in PINNED[name]}


def make_trunk(name: str) -> BlockTrunk:
    return NETWORKS[name].trunk(**conventions(name), **NETWORKS[name].options, init=FAST)


def test_every_network_is_pinned() -> None:
    assert PINNED.keys() == NETWORKS.keys()
    assert not NETWORKS.keys() & OTHERS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        model = Classifier(make_trunk(name), init=FAST)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches" not in key}
    renamed = {key: tuple(value.shape) for key, value in classifier_from_timm(pinned_state(name)).items()}
    assert renamed == own
    trunk = from_timm(pinned_state(name), to="backbone.")
    assert trunk.keys() == {key for key in own if key.startswith("backbone.")}


def test_what_is_not_timms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no conv_stem.weight.*first tensor is None"):
        from_timm({})
    state = pinned_state("mobilenetv2_035")
    with pytest.raises(ValueError, match=r"blocks.0.0.conv_exp.weight is not a tensor of a timm"):
        from_timm(state | {"blocks.0.0.conv_exp.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"fc.bias is not a tensor of a timm"):
        classifier_from_timm(state | {"fc.bias": torch.zeros(1)})


@pytest.mark.parametrize(
    ("trunk", "options", "name", "keys"),
    [
        (V3, {"bn_eps": 1e-5}, None, []),
        (V3, {"padding": "same"}, None, []),
        (V3, {}, None, ["bn_eps=1e-05"]),
        (V3, {"padding": "same"}, "tf_mobilenetv3_small_100", []),
        (V3, {"padding": "same"}, "mobilenetv3_small_100", ["bn_eps=1e-05", "padding=symmetric"]),
        (V3, {"bn_eps": 1e-5, "gate": "tf"}, None, ["gate=exact"]),
        (MobileNetV2, {"bn_eps": 1e-5}, "mobilenetv2_100", []),
        (MNASNET, {"bn_eps": 1e-5}, None, ["first_residual=true"]),
        (MNASNET, {"bn_eps": 1e-5, "first_residual": True}, None, []),
        (MnasNet, {"bn_eps": 1e-5}, None, []),
    ],
)
def test_settings_the_names_do_not_tell(
    trunk: Callable[..., BlockTrunk], options: dict[str, object], name: str | None, keys: list[str]
) -> None:
    with torch.device("meta"):
        assert settings(trunk(**options, init=FAST), name=name) == [f"backbone.{key}" for key in keys]


@pytest.mark.parametrize(
    ("file", "mean", "std"),
    [
        ("mobilenetv3_large_100.ra_in1k.safetensors", 0.485, 0.229),
        ("mobilenetv3_large_100.miil_in21k_ft_in1k.safetensors", 0.0, 1.0),
        ("mobilenetv3_large_100.ra4_e3600_r224_in1k.safetensors", 0.5, 0.5),
        ("tf_mobilenetv3_small_100-37f49e2b.pth", 0.5, 0.5),
        ("mobilenetv1_100", 0.5, 0.5),
    ],
)
def test_the_pictures_statistics(file: str, mean: float, std: float) -> None:
    assert [values[0] for values in mean_std(file)] == [mean, std]


def both(name: str, enliven: Callable, **mistake: object) -> tuple[Tensor, Tensor]:
    """The logits of ours and of timm's network with the same lively weights."""
    timm = pytest.importorskip("timm", reason="compares with timm's own networks: pip install timm")
    theirs = enliven(timm.create_model(name), IMAGES)
    network, options = NETWORKS[name], {"init": FAST} | mistake
    trunk = make_trunk(name) if not mistake else network.trunk(**network.options, **options)
    ours = Classifier(trunk).double().eval()
    report = load_strict(ours, classifier_from_timm(theirs.state_dict()))
    assert not report.reinitialized
    images = torch.randint(0, 256, IMAGES.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return ours(images)["logits"], theirs(ours.normalize(images))


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert theirs.std() > 0.1, "the logits are not lively"
    return ((ours - theirs).abs().max() / theirs.std()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_timms(name: str, enliven: Callable) -> None:
    assert difference(*both(name, enliven)) < 1e-10


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("mobilenetv3_small_100", {"bn_eps": 1e-3}),
        ("tf_mobilenetv3_small_100", {"padding": "symmetric"}),
        ("mobilenetv3_small_100", {"bn_eps": 1e-5, "gate": "tf"}),
        ("mnasnet_small", {"bn_eps": 1e-5, "first_residual": False}),
    ],
)
def test_parity_sees_every_setting(name: str, mistake: dict[str, object], enliven: Callable) -> None:
    network = NETWORKS[name]
    without = network._replace(options={k: v for k, v in network.options.items() if k not in mistake})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, name, without)
        assert difference(*both(name, enliven, **mistake)) > 1e-6
