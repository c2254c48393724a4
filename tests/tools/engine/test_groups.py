"""Parts of a network by name: freezing, norms that stand still, factors on the learning rate."""

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from pocketvision.conf.schema import DecayRule
from pocketvision.tools.engine.groups import freeze, hold_norms, part, rate_factors
from pocketvision.tools.engine.optim import parameter_groups
from torch import nn


class Network(nn.Module):
    """Twelve numbered blocks (number 2 without parameters), so that `blocks.1` could be taken for `blocks.10`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        layers = [nn.ReLU() if i == 2 else nn.Conv2d(2, 2, 1) for i in range(12)]
        self.backbone.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2))
        self.plain = nn.BatchNorm2d(2, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.head(self.backbone.blocks(self.backbone.stem(x))))


def blocks(numbers: Sequence[int]) -> set[str]:
    return {f"backbone.blocks.{i}.{kind}" for i in numbers for kind in ("weight", "bias")}


STEM = {f"backbone.stem.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
HEAD = {"head.0.weight", "head.1.weight", "head.1.bias"}
ALL_BLOCKS = blocks([0, 1, *range(3, 12)])


@pytest.mark.parametrize(
    ("prefixes", "frozen"),
    [
        ([], set()),
        (["backbone.blocks.1"], blocks([1])),
        (["backbone.blocks.1-3"], blocks([1, 3])),
        (["backbone.blocks.2-10"], blocks(range(3, 11))),  # an end without parameters; 2-10 as numbers, not as text
        (["backbone.stem.0-1"], STEM),
        (["head.1.bias"], {"head.1.bias"}),
        (["head", "backbone.stem"], HEAD | STEM),
        (["backbone", "backbone.stem"], STEM | ALL_BLOCKS),
    ],
)
def test_freeze_takes_whole_components_and_ranges(prefixes: list[str], frozen: set[str]) -> None:
    model = Network()
    freeze(model, prefixes)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("", "it has no parameters"),
        ("plain", "it has no parameters"),  # a module, but one with nothing to learn
        ("backbone.blocks.2", "it has no parameters"),
        ("backbone.", "did you mean backbone"),
        ("backbone.block", "did you mean backbone.blocks"),
        ("blocks", "did you mean backbone.blocks?"),
        ("1.weight", "did you mean backbone.stem.1.weight, backbone.blocks.1.weight, head.1.weight?"),
        ("blocks.0-5", "no 'blocks.5'; did you mean backbone.blocks.5"),
        ("backbone.blocks.12", "did you mean backbone.blocks.1"),
        ("backbone.blocks.5-12", "no 'backbone.blocks.12'"),
        ("backbone.blocks.5-1", "it has no parameters"),
        ("head.0.weight.data", "did you mean head.0.weight"),
    ],
)
def test_a_prefix_of_nothing_is_refused_with_what_there_is(prefix: str, told: str) -> None:
    model = Network()
    with pytest.raises(ValueError, match=r"names start with: backbone, head$") as error:
        freeze(model, ["head", prefix])
    assert str(error.value).startswith(f"freeze: {prefix!r}: ")
    assert told in str(error.value)
    assert all(p.requires_grad for p in model.parameters())  # nor was the good one frozen
    with pytest.raises(ValueError, match=r"^lr_factors: .*names start with: backbone, head$"):
        parameter_groups(model, 0.1, DecayRule.weights, lr=1.0, factors={prefix: 0.1})


def test_a_model_without_parameters_has_no_parts() -> None:
    with pytest.raises(ValueError, match="names start with: none"):
        freeze(nn.ReLU(), ["backbone"])


def test_a_shared_parameter_answers_to_each_of_its_names() -> None:
    model = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2)})
    model["two"].weight = model["one"].weight
    assert part(model, "two", key="freeze") == [model["one"].weight, model["two"].bias]


@pytest.mark.parametrize(
    ("prefixes", "all_norms", "held"),
    [
        ([], False, set()),
        ([], True, {"backbone.stem.1", "head.1", "plain"}),
        (["backbone"], False, {"backbone.stem.1"}),
        (["backbone"], True, {"backbone.stem.1", "head.1", "plain"}),
        (["head.1.weight"], False, set()),  # half of a norm
        (["head.1"], False, {"head.1"}),
    ],
)
def test_held_norms_keep_their_statistics_and_the_others_do_not(
    prefixes: list[str], all_norms: bool, held: set[str]
) -> None:
    model = Network()
    freeze(model, prefixes)
    norms = hold_norms(model, all_norms=all_norms)
    names = {module: name for name, module in model.named_modules()}
    assert {names[norm] for norm in norms} == held

    model.train()
    for norm in norms:
        norm.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    moved = {name.rpartition(".")[0] for name, b in model.named_buffers() if not torch.equal(b, before[name])}
    assert moved == {"backbone.stem.1", "head.1", "plain"} - held
    learn = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learn == {name for name, p in model.named_parameters() if p.requires_grad}


def test_every_kind_of_batch_norm_is_held_and_no_other_norm() -> None:
    norms = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)]
    others = [nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2, affine=True)]
    assert hold_norms(nn.Sequential(*norms, *others), all_norms=True) == norms


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({}, {}),
        ({"backbone": 0.1, "backbone.stem": 0.01}, {"stem": 0.01, "0": 0.1, "11": 0.1}),
        ({"backbone.stem": 0.01, "backbone": 0.1}, {"stem": 0.01, "0": 0.1, "11": 0.1}),
        ({"backbone.blocks.1": 0.5, "backbone.blocks.0-5": 0.1}, {"0": 0.1, "1": 0.5, "5": 0.1}),
        ({"backbone.blocks.0-3": 0.2, "backbone.blocks.3-4": 0.2}, {"0": 0.2, "3": 0.2, "4": 0.2}),
        ({"head.1": 10, "head": 2}, {"head.0": 2, "head.1": 10}),
    ],
)
def test_the_longest_prefix_decides(factors: dict[str, float], expected: dict[str, float]) -> None:
    model = Network()
    places = {"stem": "backbone.stem.0", "head.0": "head.0", "head.1": "head.1"}
    places |= {str(i): f"backbone.blocks.{i}" for i in (0, 1, 3, 4, 5, 11)}
    found = rate_factors(model, factors)
    seen = {key: found.get(model.get_submodule(place).weight) for key, place in places.items()}
    assert {key: seen[key] for key in expected} == expected
    assert (set(found) == set()) == (factors == {})


def test_ranges_that_overlap_with_different_factors_are_refused() -> None:
    factors = {"backbone.blocks.0-5": 0.1, "backbone.blocks.4-8": 0.2}
    with pytest.raises(
        ValueError, match=r"'backbone.blocks.0-5' and 'backbone.blocks.4-8' overlap, with 0\.1 and 0\.2"
    ):
        rate_factors(Network(), factors)


@pytest.mark.parametrize(
    ("factor", "told"),
    [(0, "use freeze"), (0.0, "use freeze"), (-1, "above 0"), (math.inf, "finite"), (math.nan, "finite")],
)
def test_factors_are_finite_and_above_zero(factor: float, told: str) -> None:
    with pytest.raises(ValueError, match=f"lr_factors: .* for 'head': .*{told}"):
        rate_factors(Network(), {"head": factor})


def described(model: nn.Module, factors: Mapping[str, float]) -> list[tuple]:
    """Each group as (rate, decay, names of its parameters)."""
    names = {p: name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, DecayRule.weights, lr=0.5, factors=factors)
    return [(g["lr"], g["weight_decay"], [names[p] for p in g["params"]]) for g in groups]


def test_without_factors_there_are_the_two_groups_there_always_were() -> None:
    weights = [n for n, p in Network().named_parameters() if p.ndim > 1]
    rest = [n for n, p in Network().named_parameters() if p.ndim <= 1]
    assert described(Network(), {}) == [(0.5, 0.1, weights), (0.5, 0.0, rest)]
    assert parameter_groups(nn.ReLU(), 0.1, DecayRule.weights, lr=0.5) == []


def test_groups_come_in_the_order_of_their_factors_and_cover_what_learns() -> None:
    factors = {"backbone.blocks": 0.5, "backbone.stem": 4.0}
    model = Network()
    freeze(model, ["backbone.blocks.0-10"])
    groups = described(model, factors)
    assert groups == [
        (0.5, 0.1, ["head.0.weight"]),
        (0.5, 0.0, ["head.1.weight", "head.1.bias"]),
        (2.0, 0.1, ["backbone.stem.0.weight"]),
        (2.0, 0.0, ["backbone.stem.0.bias", "backbone.stem.1.weight", "backbone.stem.1.bias"]),
        (0.25, 0.1, ["backbone.blocks.11.weight"]),
        (0.25, 0.0, ["backbone.blocks.11.bias"]),
    ]
    assert described(model, dict(reversed(factors.items()))) == groups


def test_equal_factors_share_groups_and_empty_groups_are_left_out() -> None:
    groups = described(Network(), {"backbone": 0.1, "head": 0.1})
    assert [(rate, decay) for rate, decay, _ in groups] == [(0.05, 0.1), (0.05, 0.0)]
    assert {name for _, _, names in groups for name in names} == STEM | HEAD | ALL_BLOCKS
