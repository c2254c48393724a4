"""Where a network is quantized: as NNCF does it, and again at the same places."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.tools.quantizing.fake import FakeQuantize
from pocketvision.tools.quantizing.placement import described, with_learned_quantizers, with_quantizers
from pocketvision.tools.runs.loaded import load_run
from torch import Tensor, nn

nncf = pytest.importorskip("nncf", reason="needs pip install 'pocketvision[int8]'")
IMAGES = torch.rand(4, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture(scope="module")
def network(trained_run: Callable[[str], Path]) -> nn.Module:
    return load_run(trained_run("classification")).task.model


@pytest.fixture(scope="module")
def both(network: nn.Module) -> tuple[nn.Module, dict[str, tuple[Tensor, Tensor]]]:
    """The network with our quantizers, and what each of NNCF's makes of what."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    quantize = nncf.quantize

    def note(name: str, module: nn.Module, values: tuple[Tensor], value: Tensor) -> None:
        found[name] = values[0].clone(), value.clone()

    def noted(*arguments: Any, **options: Any) -> Any:
        model = quantize(*arguments, **options)
        for name, module in model.get_submodule("__nncf_hooks").named_modules():
            if hasattr(module, "get_parameters_for_torch_fq"):
                module.register_forward_hook(partial(note, name))
        with torch.no_grad():
            model.eval()(IMAGES[0])
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nncf, "quantize", noted)
        return with_learned_quantizers(copy.deepcopy(network), list(IMAGES)), found


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return torch.cat([model(image)["logits"] for image in IMAGES])


def test_a_network_in_floating_point_has_none(network: nn.Module) -> None:
    assert described(network) == {}


@torch.no_grad()
def test_every_quantizer_rounds_as_nncfs_does(both: tuple[nn.Module, dict[str, tuple[Tensor, Tensor]]]) -> None:
    """Up to one step for values in the middle between two, such as the largest of every filter."""
    model, found = both
    quantizers = {name: model.get_submodule(f"__nncf_hooks.{name}") for name in described(model)}
    assert quantizers.keys() == found.keys()
    assert sum(bool((x != expected).any()) for x, expected in found.values()) > 50  # they do round
    for name, (x, expected) in found.items():
        fake = quantizers[name]
        assert isinstance(fake, FakeQuantize)
        steps = ((fake(x) - expected) / fake.shaped(fake.scale, x.ndim)).abs()
        assert steps.max() < 1.001
        assert (steps > 1e-3).float().mean() < 0.1, name
        assert isinstance(x, nn.Parameter) == (fake.low == -64), name


def test_everything_is_trained_and_no_batch_norm_is_left(both: tuple[nn.Module, Any]) -> None:
    model = both[0]
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(isinstance(module, FakeQuantize) for module in model.modules()) == len(described(model)) > 50


def test_a_checkpoint_gives_the_same_network(both: tuple[nn.Module, Any], network: nn.Module) -> None:
    model = both[0]
    again = with_quantizers(copy.deepcopy(network), described(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(logits(again), logits(model))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names == [name for name, parameter in again.named_parameters() if parameter.requires_grad]  # in this order
    average = copy.deepcopy(again)  # as of the weights
    average.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(logits(again), logits(model))


GOOD = {"low": 0, "high": 255, "axis": None, "channels": 1}
PLACE = "post_hooks.backbone:stem:activation/hardswish/0__0.0"
DAMAGED = {
    "a list": [GOOD],
    "a number for a name": {7: GOOD},
    "a path for a name": {"../../x": GOOD},
    "a weight's name": {"backbone.stem.conv.weight": GOOD},
    "no numbers": {PLACE: {}},
    "text": {PLACE: "x"},
    "a truth for a number": {PLACE: GOOD | {"low": False}},
    "an empty range": {PLACE: GOOD | {"low": 255}},
    "sixteen bits": {PLACE: GOOD | {"high": 65535}},
    "a dimension too many": {PLACE: GOOD | {"axis": 4}},
    "channels without an axis": {PLACE: GOOD | {"channels": 2}},
    "no memory": {PLACE: GOOD | {"axis": 1, "channels": 10**12}},
    "a place of another network": {PLACE.replace("stem", "nowhere"): GOOD},
}


@pytest.mark.parametrize("places", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_description_is_one_error(places: Any, network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"damaged|no place in this network") as told:
        with_quantizers(copy.deepcopy(network), places)
    assert "\n" not in str(told.value)
