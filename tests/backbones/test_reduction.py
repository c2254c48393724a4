"""Channels chosen from a larger network: the same function where what is left out is nothing."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from pocketvision.backbones.blocks import BlockTrunk, InvertedResidual
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.layers import ConvNormAct
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.reduction import RULES, Reduction, reduce_classifier, reduce_trunk
from pocketvision.backbones.weights import load_strict
from torch import Tensor, nn

FAST = "torchvision_detection"
IMAGES = torch.randn(2, 3, 49, 66, generator=torch.Generator().manual_seed(1))
TRUNKS: dict[str, Callable[..., BlockTrunk]] = {
    "v1": partial(MobileNetV1, init=FAST),
    "v2": partial(MobileNetV2, init=FAST),
    "v3 large": partial(MobileNetV3, init=FAST),
    "v3 small": partial(MobileNetV3, "small", init=FAST),
    "a1": partial(MnasNet, init=FAST),
    "mnasnet small": partial(MnasNet, "small", first_residual=True, init=FAST),
}
SMALLER = ({"width": 0.6, "reduced": "detection"}, {"width": 0.75, "reduced": "segmentation"})  # than 0.75


def lively(trunk: BlockTrunk, enliven: Callable) -> BlockTrunk:
    return enliven(Run(trunk), IMAGES).trunk


class Run(nn.Module):
    """A trunk that takes images and gives a tensor, as `enliven` calls it."""

    def __init__(self, trunk: BlockTrunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images, ("c5",))["c5"]


def reduced(larger: nn.Module, smaller: BlockTrunk, rule: str) -> tuple[Reduction, BlockTrunk]:
    """`smaller` with the weights chosen from `larger`."""
    reduction = Reduction(larger.state_dict(), rule)
    reduce_trunk(reduction, smaller)
    smaller = smaller.double().eval()
    report = load_strict(smaller, reduction.state)
    assert not report.reinitialized
    return reduction, smaller


def squeezed(trunk: BlockTrunk) -> dict[int, int]:
    """Number of a block -> the channels inside its gate."""
    blocks = enumerate(trunk.blocks, start=1)
    return {n: b.se.squeeze.out_channels for n, b in blocks if isinstance(b, InvertedResidual) and b.se is not None}


def silence(trunk: BlockTrunk, kept: dict[str, Tensor], inner: dict[int, int]) -> None:
    """Make every channel that is not among `kept` zero wherever it is written; inside gates those behind `inner`."""

    def quiet(layer: ConvNormAct, channels: Tensor) -> None:
        gone = torch.ones(layer.norm.num_features, dtype=torch.bool)
        gone[channels] = False
        with torch.no_grad():
            layer.norm.weight[gone] = 0
            layer.norm.bias[gone] = 0

    quiet(trunk.stem, kept["stem"])
    for number, block in enumerate(trunk.blocks, start=1):
        assert isinstance(block, InvertedResidual)
        if block.expand is not None:
            quiet(block.expand, kept[f"block{number}.expansion"])
        quiet(block.depthwise, kept[f"block{number}.depthwise"])
        quiet(block.project, kept[f"block{number}.output"])
        if block.se is not None:
            with torch.no_grad():
                block.se.excite.weight[:, inner[number] :] = 0
    if trunk.last is not None:
        quiet(trunk.last, kept["last"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_to_the_same_width_is_the_identity(trunk: str, rule: str) -> None:
    model = TRUNKS[trunk](width=0.5)
    reduction = Reduction(model.state_dict(), rule)
    reduce_trunk(reduction, model)
    assert not reduction.notes
    assert reduction.state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, reduction.state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("options", "rule"), zip(SMALLER, RULES, strict=True), ids=str)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_channels_that_are_nothing_are_not_missed(trunk: str, options: dict, rule: str, enliven: Callable) -> None:
    """Exactly the outputs of the larger network, on the channels kept, at every tap."""
    larger = lively(TRUNKS[trunk](width=0.75), enliven)
    smaller = TRUNKS[trunk](**options)
    # Choose once, make all else silent, and choose again: `importance` now has to find the same ones.
    chosen, _ = reduced(larger, smaller, rule)
    silence(larger, chosen.kept, squeezed(smaller))
    again, smaller = reduced(larger, smaller, rule)
    assert again.kept.keys() == chosen.kept.keys()
    assert all(torch.equal(channels, chosen.kept[point]) for point, channels in again.kept.items())
    images = IMAGES.double()
    with torch.no_grad():
        expected, found = larger(images), smaller(images)
    for tap, feature in found.items():
        theirs = expected[tap][:, again.kept[smaller.tap_points[tap]]]
        assert theirs.std() > 0.05, tap
        assert (feature - theirs).abs().max() < 1e-10 * theirs.std(), tap
    assert any("->" in note for note in again.notes)


def test_the_comparison_sees_a_perturbed_layer(enliven: Callable) -> None:
    larger = lively(TRUNKS["v3 large"](width=0.35), enliven)
    for layer in ("blocks.14.project.norm", "blocks.13.se.excite", "blocks.12.depthwise.conv", "last.conv"):
        reduction, smaller = reduced(larger, TRUNKS["v3 large"](width=0.35), "first")
        assert not reduction.notes
        with torch.no_grad():
            before = smaller(IMAGES.double(), ("c5",))["c5"]
            smaller.get_submodule(layer).get_parameter("weight").mul_(1 + 1e-4)
            after = smaller(IMAGES.double(), ("c5",))["c5"]
        assert (after - before).abs().max() > 1e-8 * before.std(), layer


def test_a_residual_stream_is_one_choice_by_the_sum_of_its_writers() -> None:
    larger, smaller = MobileNetV3(init=FAST), MobileNetV3(init=FAST, reduced="detection")
    with torch.no_grad():
        for block, channels in ((12, slice(0, 80)), (13, slice(80, 160)), (14, slice(80, 160))):
            scale = larger.blocks[block].get_submodule("project.norm").get_parameter("weight")
            scale.fill_(0.1)
            scale[channels] = -1.0 if block == 14 else 0.8  # the sign does not matter
    reduction = Reduction(larger.state_dict(), "importance")
    reduce_trunk(reduction, smaller)
    for number in (13, 14, 15):
        assert reduction.kept[f"block{number}.output"].tolist() == list(range(80, 160))
    weight = larger.state_dict()["last.conv.weight"]
    assert torch.equal(reduction.state["last.conv.weight"], weight[reduction.kept["last"]][:, 80:160])


def test_importance_beats_first_where_the_first_channels_are_nothing(enliven: Callable) -> None:
    """A classifier whose last stage uses the later half of its channels: one rule loses nothing, the other much."""
    trunk = lively(MobileNetV3("small", init=FAST), enliven)
    smaller = MobileNetV3("small", reduced="detection", init=FAST)
    first, _ = reduced(trunk, smaller, "first")
    later = {}
    for tap, point in trunk.tap_points.items():
        later[point] = torch.arange(trunk.feature_specs[tap].channels)[-len(first.kept[point]) :]
    for point, channels in first.kept.items():  # expansions are no taps
        block, _, step = point.partition(".")
        if step in ("expansion", "depthwise"):
            inner = trunk.blocks[int(block.removeprefix("block")) - 1].get_submodule("depthwise.norm")
            later[point] = torch.arange(len(inner.get_parameter("weight")))[-len(channels) :]
    silence(trunk, later, squeezed(smaller))
    larger = Classifier(trunk, num_classes=7, init=FAST).double().eval()
    images = torch.randint(0, 256, (2, 3, 49, 66), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    lost = {}
    for rule in RULES:
        model = Classifier(MobileNetV3("small", reduced="detection", init=FAST), num_classes=7).double().eval()
        reduction = Reduction(larger.state_dict(), rule)
        reduce_classifier(reduction, model)
        assert not load_strict(model, reduction.state).reinitialized
        with torch.no_grad():
            expected = larger(images)["logits"]
            lost[rule] = ((model(images)["logits"] - expected).std() / expected.std()).item()
    assert lost["importance"] < 1e-10
    assert lost["first"] > 0.1


def test_what_cannot_be_reduced() -> None:
    state = MobileNetV3("small", width=0.5, init=FAST).state_dict()
    with pytest.raises(ValueError, match="weights_reduce='random': choose one of 'importance', 'first'"):
        Reduction(state, "random")
    with pytest.raises(ValueError, match=r"stem.* has 16 channels, but the weights only 8"):
        reduce_trunk(Reduction(state, "first"), MobileNetV3("small", init=FAST))
    with pytest.raises(ValueError, match=r"missing in the weights: blocks.11.project.norm.weight; only a wider net"):
        reduce_trunk(Reduction(state, "first"), MobileNetV3("large", width=0.35, init=FAST))
    with pytest.raises(ValueError, match="missing in the weights: stem"):
        reduce_trunk(Reduction({}, "importance"), MobileNetV3("small", init=FAST))


def test_a_block_that_becomes_residual_is_told() -> None:
    """V3-Small's last stage at output stride 16: 48 -> 48 channels instead of 48 -> 96."""
    reduction = Reduction(MobileNetV3("small", output_stride=16, init=FAST).state_dict(), "importance")
    smaller = MobileNetV3("small", output_stride=16, reduced="segmentation", init=FAST)
    reduce_trunk(reduction, smaller)
    load_strict(smaller, reduction.state)
    assert "blocks.8 has a residual connection here, but not in the weights" in reduction.notes


@pytest.mark.parametrize("rule", RULES)
def test_tensors_of_any_shape_are_refused_where_they_do_not_fit(rule: str) -> None:
    state = MobileNetV3("small", init=FAST).state_dict()
    smaller = MobileNetV3("small", reduced="detection", init=FAST)
    names = ["stem.conv.weight", "blocks.3.expand.norm.weight", "blocks.3.se.squeeze.bias", "blocks.3.se.excite.weight"]
    for name in [*names, "blocks.3.project.norm.weight", "blocks.3.depthwise.conv.weight", "last.norm.running_var"]:
        for wrong in (torch.zeros(()), torch.zeros(0), torch.zeros(1, 1)):
            with pytest.raises(ValueError, match=r"blocks|stem|last"):
                load_strict(smaller, _cut(state | {name: wrong}, smaller, rule))


def _cut(state: dict[str, torch.Tensor], smaller: BlockTrunk, rule: str) -> dict[str, torch.Tensor]:
    reduction = Reduction(state, rule)
    reduce_trunk(reduction, smaller)
    return reduction.state
