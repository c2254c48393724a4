"""Parity with torchvision under its own weights, and the strict loader."""

from collections.abc import Callable

import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.weights import (
    classifier_from_torchvision,
    from_torchvision,
    load_strict,
)
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from torchvision.models.mobilenetv3 import MobileNetV3 as TorchvisionMobileNetV3
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

LIMIT = 1e-8
IMAGES = torch.randn(2, 3, 97, 130, generator=torch.Generator().manual_seed(1))


def torchvision_model(variant: str, *, width: float, dilated: bool, reduced_tail: bool) -> TorchvisionMobileNetV3:
    """What `mobilenet_v3_large(...)` builds, of any width."""
    rows, last_channel = _mobilenet_v3_conf(
        f"mobilenet_v3_{variant}", width_mult=width, dilated=dilated, reduced_tail=reduced_tail
    )
    return TorchvisionMobileNetV3(rows, last_channel)


def our_trunk(
    variant: str, *, width: float, dilated: bool, reduced_tail: bool, scaling: str = "torchvision"
) -> MobileNetV3:
    return MobileNetV3(
        variant,
        width=width,
        output_stride=16 if dilated else 32,
        atrous="torchvision",
        reduced="detection" if reduced_tail else None,
        scaling=scaling,
    )


def torchvision_features(features: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Run torchvision's trunk; return the output of every layer under the name of our tap."""
    taps: dict[str, Tensor] = {}
    layers = list(features.children())
    names = ["stem", *(f"block{number}" for number in range(1, len(layers) - 1)), "c5"]
    x = images
    for name, layer in zip(names, layers, strict=True):
        x = layer(x)
        taps[name] = x
    return taps


def relative_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of any tap, relative to its standard deviation, after checking that it has one."""
    worst = 0.0
    for tap, feature in theirs.items():
        assert feature.std() > 0.1, f"{tap} is not lively"
        worst = max(worst, ((ours[tap] - feature).abs().max() / feature.std()).item())
    return worst


CASES = [
    *(
        (variant, 1.0, dilated, reduced)
        for variant in ("large", "small")
        for dilated in (False, True)
        for reduced in (False, True)
    ),
    *((variant, width, True, True) for variant in ("large", "small") for width in (0.35, 0.5, 0.75, 1.25, 1.5)),
]


@pytest.mark.parametrize(("variant", "width", "dilated", "reduced_tail"), CASES)
def test_trunk_is_torchvisions(
    variant: str, width: float, dilated: bool, reduced_tail: bool, enliven: Callable
) -> None:
    theirs = torchvision_model(variant, width=width, dilated=dilated, reduced_tail=reduced_tail)
    enliven(theirs, IMAGES)
    ours = our_trunk(variant, width=width, dilated=dilated, reduced_tail=reduced_tail).double().eval()
    report = load_strict(ours, from_torchvision(theirs.state_dict()))
    assert not report.reinitialized
    with torch.no_grad():
        expected = torchvision_features(theirs.features, IMAGES.double())
        assert relative_difference(ours(IMAGES.double()), expected) < LIMIT


@pytest.mark.parametrize(
    "layer", ["stem.conv", "blocks.0.depthwise.norm", "blocks.6.expand.conv", "blocks.10.se.excite", "last.norm"]
)
def test_parity_sees_one_perturbed_layer(layer: str, enliven: Callable) -> None:
    theirs = enliven(mobilenet_v3_small(), IMAGES)
    ours = MobileNetV3("small").double().eval()
    load_strict(ours, from_torchvision(theirs.state_dict()))
    weight = ours.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        weight *= 1 + 1e-4
        expected = torchvision_features(theirs.features, IMAGES.double())
        assert relative_difference(ours(IMAGES.double()), expected) > 100 * LIMIT


@pytest.mark.parametrize(
    "mistake",
    [{"atrous": "reference"}, {"output_stride": 32}, {"gate": "tf"}, {"bn_eps": 1e-5}, {"padding": "same"}],
)
def test_parity_sees_every_option(mistake: dict[str, object], enliven: Callable) -> None:
    theirs = enliven(torchvision_model("small", width=1, dilated=True, reduced_tail=True), IMAGES)
    options = {"atrous": "torchvision", "output_stride": 16} | mistake
    ours = MobileNetV3("small", reduced="detection", **options).double().eval()  # pyright: ignore[reportArgumentType]
    load_strict(ours, from_torchvision(theirs.state_dict()))
    images = IMAGES[..., :96, :128].double()  # at odd sizes the two paddings are the same
    with torch.no_grad():
        expected, found = theirs.features(images), ours(images, ("c5",))["c5"]
    assert found.shape != expected.shape or relative_difference({"c5": found}, {"c5": expected}) > 100 * LIMIT


@pytest.mark.parametrize(
    ("variant", "width", "reduced_tail"), [("large", 1.0, False), ("small", 1.0, True), ("small", 0.75, False)]
)
def test_classifier_is_torchvisions(variant: str, width: float, reduced_tail: bool, enliven: Callable) -> None:
    theirs = torchvision_model(variant, width=width, dilated=False, reduced_tail=reduced_tail)
    enliven(theirs, IMAGES)
    hidden = theirs.classifier[0].out_features
    backbone = our_trunk(variant, width=width, dilated=False, reduced_tail=reduced_tail)
    ours = Classifier(backbone, hidden=hidden).double().eval()
    load_strict(ours, classifier_from_torchvision(theirs.state_dict()))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        expected = theirs((images.double() / 255 - mean) / std)
        assert relative_difference(ours(images), {"logits": expected}) < LIMIT


def test_mobilenet_v2_classifier_is_torchvisions(enliven: Callable) -> None:
    theirs = enliven(mobilenet_v2(width_mult=0.5, num_classes=7), IMAGES)
    ours = Classifier(MobileNetV2(width=0.5, bn_eps=1e-5), num_classes=7).double().eval()
    load_strict(ours, classifier_from_torchvision(theirs.state_dict()))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        assert relative_difference(ours(images), {"logits": expected}) < LIMIT


def test_torchvisions_mnasnet_is_another_one() -> None:
    with pytest.raises(ValueError, match="torchvision's MnasNet is B1, which is not supported"):
        from_torchvision({"layers.0.weight": torch.zeros(1)})


def test_torchvisions_own_builders_load() -> None:
    """The default state dicts, and the trunk inside its LR-ASPP, whose names start with `backbone.`."""
    load_strict(Classifier(MobileNetV3("large")), classifier_from_torchvision(mobilenet_v3_large().state_dict()))
    load_strict(Classifier(MobileNetV3("small")), classifier_from_torchvision(mobilenet_v3_small().state_dict()))
    segmenter = lraspp_mobilenet_v3_large(weights_backbone=None).state_dict()
    load_strict(MobileNetV3("large", output_stride=16), from_torchvision(segmenter, prefix="backbone."))


@pytest.mark.parametrize(("width", "same"), [(1.0, True), (2.0, True), (0.75, False), (0.35, False)])
def test_where_the_two_scaling_rules_agree(width: float, same: bool) -> None:
    shapes = [
        {name: tensor.shape for name, tensor in MobileNetV3("small", width=width, scaling=scaling).state_dict().items()}
        for scaling in ("reference", "torchvision")
    ]
    assert (shapes[0] == shapes[1]) == same


def test_renaming_refuses_what_is_not_a_mobilenet_v3() -> None:
    with pytest.raises(ValueError, match=r"no name starts with 'features.'"):
        from_torchvision({})
    with pytest.raises(ValueError, match=r"no name starts with 'features.'; the first tensor is 'conv1.weight'"):
        from_torchvision({"conv1.weight": torch.zeros(1)})
    state = mobilenet_v3_small().state_dict()
    with pytest.raises(ValueError, match=r"features.1.block.0.2.weight is not a tensor"):
        from_torchvision(state | {"features.1.block.0.2.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"backbone.strange is not a tensor"):
        from_torchvision({"backbone.strange": torch.zeros(1)}, prefix="backbone.")
    with pytest.raises(ValueError, match=r"fc.bias is not a tensor"):
        classifier_from_torchvision(state | {"fc.bias": torch.zeros(1)})


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1))


def test_loading_reports() -> None:
    source, model = small_model(), small_model()
    state = source.state_dict()
    del state["1.num_batches_tracked"]  # files of other frameworks have none
    report = load_strict(model, state)
    assert report.loaded == tuple(state)
    assert (report.missing, report.unexpected, report.mismatched, report.reinitialized) == ((), (), {}, ())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if name in state)


def test_loading_refuses_and_changes_nothing() -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = small_model().state_dict()
    state["2.weight"] = torch.zeros(5, 2, 1, 1)
    state["3.weight"] = torch.zeros(1)
    del state["0.bias"]
    with pytest.raises(ValueError, match="3 of 10 names do not match") as error:
        load_strict(model, state)
    for line in (
        "missing in the weights: 0.bias",
        "not in the model: 3.weight",
        "shape of 2.weight: (5, 2, 1, 1) in the weights, (3, 2, 1, 1) in the model",
    ):
        assert line in str(error.value)
    with pytest.raises(ValueError, match=r"missing in the weights: 0.bias"):
        load_strict(model, state, reinitialize=("2.", "3."))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_loading_reinitialises_what_it_was_told_to() -> None:
    model = small_model()
    before = model[2].weight.clone()
    state = small_model().state_dict()
    state["2.weight"] = torch.zeros(5, 2, 1, 1)
    report = load_strict(model, state, reinitialize=("2.",))
    assert report.reinitialized == ("2.weight",)
    assert report.mismatched == {"2.weight": ((5, 2, 1, 1), (3, 2, 1, 1))}
    assert torch.equal(model[2].weight, before)
    assert torch.equal(model[0].weight, state["0.weight"])
    with pytest.raises(ValueError, match=r"no tensor to re-initialize starts with \['heads.'\]"):
        load_strict(model, state, reinitialize=("2.", "heads."))
    with pytest.raises(ValueError, match="list of prefixes"):
        load_strict(model, state, reinitialize="2.")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, dtype=torch.int8), "bias is torch.int8 in the weights, but torch.float32 in the model"),
        (torch.tensor([0.0, float("nan"), 0.0, 0.0]), "bias has non-finite values"),
    ],
)
def test_values_that_no_training_leaves(value: torch.Tensor, message: str) -> None:
    model = nn.Linear(3, 4)
    before = model.bias.clone()
    with pytest.raises(ValueError, match=message):
        load_strict(model, {"weight": torch.zeros(4, 3), "bias": value})
    assert torch.equal(model.bias, before)
