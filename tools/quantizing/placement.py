"""Where a network is quantized: as NNCF does it for OpenVINO, with quantizers that can be trained."""

import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones.optimized import fold_batch_norms
from ..system.console import quiet
from ..system.packages import extra, import_nncf, require
from .fake import FakeQuantize

RUNTIME = "openvino"  # whose scheme it is
QUANTIZERS = "quantizers"  # their description in a checkpoint
_STORAGE = "__nncf_hooks"  # NNCF's name
_PLACE = re.compile(r"(pre|post)_hooks\.[^.\s]{1,200}__\d{1,3}\.\d{1,3}")
_MOST_CHANNELS = 2**16
_SIDE = 128  # pixels of the image that shows whether every quantizer is called


def check_installed() -> None:
    """Raise ValueError if NNCF is missing."""
    require(("nncf",), installs=extra("int8"), need=f"quantize={RUNTIME}")


def with_learned_quantizers(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """A copy of a trained network that rounds weights and activations to eight bits, batch norms folded.

    NNCF chooses where, and the first ranges (`nncf.quantize`, preset MIXED, and squeeze-and-excitation, too, as for an
    int8 export). Its own quantizers are replaced: on a GPU they compile with nvcc, and their state is no plain data.
    Filters have seven of the eight bits: with all of them, sums overflow on processors without VNNI (AVX2).

    Args:
        batches: images [B, 3, h, w] in 0..255 that show the ranges of the network's values.
    """
    nncf = import_nncf()
    from nncf.quantization.advanced_parameters import OverflowFix

    images = list(batches)
    model = _folded(model)
    with quiet():
        _without_compiler()
        _with_squeeze_and_excitation()
        model = nncf.quantize(
            model, nncf.Dataset(images), subset_size=len(images), preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )  # fmt: skip
    for hooks in _storage(model).modules():
        for name, child in list(hooks.named_children()):
            theirs: Any = child
            if hasattr(theirs, "get_parameters_for_torch_fq"):
                low, high, scale, zero_point = theirs.get_parameters_for_torch_fq()
                if theirs.is_half_range:
                    low, high = low // 2, high // 2
                axis = next((i for i, size in enumerate(theirs.scale_shape) if size > 1), None)
                hooks.add_module(name, FakeQuantize(scale, zero_point, low=int(low), high=int(high), axis=axis))
    return model


def described(model: nn.Module) -> dict[str, dict[str, int | None]]:
    """The places and kinds of a network's quantizers; empty without any."""
    return {
        name: {"low": module.low, "high": module.high, "axis": module.axis, "channels": len(module.log_scale)}
        for name, module in _storage(model).named_modules()
        if isinstance(module, FakeQuantize)
    }


def with_quantizers(model: nn.Module, places: Any) -> nn.Module:
    """The network with batch norms folded and quantizers at the places of `described`, for a checkpoint's values.

    Raises:
        ValueError: this is no description, or its places do not exist in this network.
    """
    check_installed()
    quantizers = {name: _quantizer(name, place) for name, place in _checked(places).items()}
    import_nncf()
    with quiet():
        from nncf.torch.function_hook.wrapper import get_hook_storage, wrap_model

    model = wrap_model(_folded(model))
    for name, quantizer in quantizers.items():
        get_hook_storage(model).insert_hook_by_name(name, quantizer)
    called = inputs_of(model)
    if missing := [name for name, module in quantizers.items() if module not in called]:
        raise ValueError(
            f"{len(missing)} of {len(quantizers)} quantizers have no place in this network, such as {missing[0]}"
        )
    return model


@torch.no_grad()
def inputs_of(model: nn.Module) -> dict[nn.Module, Tensor]:
    """What each of a network's quantizers rounds, for an empty image."""
    seen: dict[nn.Module, Tensor] = {}
    quantizers = [module for module in model.modules() if isinstance(module, FakeQuantize)]
    handles = [
        module.register_forward_pre_hook(lambda module, values: seen.__setitem__(module, values[0]))
        for module in quantizers
    ]
    training = model.training
    model.eval()(torch.zeros(1, 3, _SIDE, _SIDE, device=next(model.parameters()).device))
    model.train(training)
    for handle in handles:
        handle.remove()
    return seen


def _without_compiler() -> None:
    """Let NNCF's quantizers, which are in use for moments only, be computed by torch's own operators.

    They would compile a C++ extension at their first call, or else use `torch.compile`: a minute, and an error where
    it takes longer.
    """
    from nncf.torch.quantization.extensions import QuantizedFunctionsCPULoader as Loader
    from nncf.torch.quantization.reference import torch_executor

    functions = SimpleNamespace(Quantize_forward=torch_executor.forward, Quantize_backward=torch_executor.backward)
    Loader.load = lambda _: functions  # pyright: ignore[reportAttributeAccessIssue]


def _with_squeeze_and_excitation() -> None:
    """Let NNCF quantize it, half of V3-Small's weights: in exports, NNCF does not recognize it, and does."""
    from nncf.common.graph.patterns.patterns import IgnoredPatternNames
    from nncf.torch.quantization.ignored_patterns import PT_IGNORED_PATTERNS

    PT_IGNORED_PATTERNS.registry_dict.pop(IgnoredPatternNames.SE_BLOCK, None)


def _folded(model: nn.Module) -> nn.Module:
    model.eval()
    fold_batch_norms(model)
    return model.requires_grad_()  # also the biases that come from batch norms


def _storage(model: nn.Module) -> nn.Module:
    """Where NNCF keeps a network's quantizers; an empty module if it has none."""
    return getattr(model, _STORAGE, nn.Module())


def _checked(places: Any) -> Mapping[str, Any]:
    if not isinstance(places, Mapping) or not all(isinstance(p, str) and _PLACE.fullmatch(p) for p in places):
        raise ValueError("the description of its quantizers is damaged")
    return places


def _quantizer(name: str, place: Any) -> FakeQuantize:
    try:
        low, high, axis, channels = (place[key] for key in ("low", "high", "axis", "channels"))
        numbers = [low, high, channels, axis or 0]
        if not all(type(n) is int for n in numbers) or not (-128 <= low < high <= 255 and 0 <= numbers[3] < 4):
            raise ValueError
        if not 1 <= channels <= _MOST_CHANNELS:
            raise ValueError
        return FakeQuantize(torch.ones(channels), torch.zeros(channels), low=low, high=high, axis=axis)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the description of the quantizer {name} is damaged") from error
