"""Parts of a network by name: frozen parameters, and those with their own learning rate."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_RANGE = re.compile(r"(\d+)-(\d+)")


def freeze(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze the parameters under each prefix; their batch norms also need `hold_norms`.

    Raises:
        ValueError: a prefix matches no part of the model, see `part`; then nothing is frozen.
    """
    for parameter in [parameter for prefix in prefixes for parameter in part(model, prefix, key="freeze")]:
        parameter.requires_grad_(False)


def hold_norms(model: nn.Module, *, all_norms: bool) -> list[nn.Module]:
    """The batch norms to keep in eval mode during training, so that their statistics do not change.

    These are the ones whose parameters are all frozen: frozen weights need the statistics they were trained with. The
    model's `train()` resets them, so call `eval()` after it, each time.

    Args:
        all_norms: every batch norm instead, for batches too small for statistics. Scale and shift still learn unless
            they are frozen.
    """

    def frozen(norm: nn.Module) -> bool:
        parameters = list(norm.parameters())  # a norm without any cannot be frozen by name
        return bool(parameters) and not any(p.requires_grad for p in parameters)

    return [module for module in model.modules() if isinstance(module, _BatchNorm) and (all_norms or frozen(module))]


def rate_factors(model: nn.Module, factors: Mapping[str, float]) -> dict[nn.Parameter, float]:
    """Learning rate factor of each parameter under a prefix in `factors`; other parameters are omitted.

    The longest prefix wins, and at equal length a number wins over a range: `blocks.3` over `blocks.0-5`.

    Raises:
        ValueError: a factor is not a finite number above 0, a prefix matches no part of the model, or two equally
            specific prefixes with different factors match the same parameter.
    """
    chosen: dict[nn.Parameter, str] = {}
    for prefix in sorted(factors, key=_precision):
        _check_factor(prefix, factors[prefix])
        for parameter in part(model, prefix, key="lr_factors"):
            other = chosen.get(parameter, prefix)
            if _precision(other) == _precision(prefix) and factors[other] != factors[prefix]:
                raise ValueError(
                    f"lr_factors: {other!r} and {prefix!r} overlap, with {factors[other]} and "
                    f"{factors[prefix]}: make the ranges disjoint"
                )
            chosen[parameter] = prefix
    return {parameter: factors[prefix] for parameter, prefix in chosen.items()}


def part(model: nn.Module, prefix: str, *, key: str) -> list[nn.Parameter]:
    """The parameters under `prefix`, matched by whole components: `blocks.1` does not match `blocks.10`.

    A component may be a range, both ends included: `backbone.blocks.0-5`.

    Args:
        key: the configuration key with the prefix, for the error message.

    Raises:
        ValueError: no parameter matches, or an end of the range does not exist. The message suggests similar names.
    """
    known = {name for name, _ in model.named_modules(remove_duplicate=False)} | set(_names(model))
    missing = [end for end in _ends(prefix) if end not in known]
    named = model.named_parameters(remove_duplicate=False)  # a shared parameter has several names
    found = [parameter for name, parameter in named if _lies_under(name, prefix)]
    if missing or not found:
        raise ValueError(f"{key}: {_unknown(model, prefix, missing[-1] if missing else prefix)}")
    return found


def _lies_under(name: str, prefix: str) -> bool:
    own, wanted = name.split("."), prefix.split(".")
    return len(own) >= len(wanted) and all(map(_fits, own, wanted))


def _fits(component: str, wanted: str) -> bool:
    numbers = _RANGE.fullmatch(wanted)
    if numbers is None or not component.isdecimal():
        return component == wanted
    return int(numbers[1]) <= int(component) <= int(numbers[2])


def _ends(prefix: str) -> Iterator[str]:
    """Both ends of a range, `a.0-5` -> `a.0`, `a.5`; a prefix without one twice."""
    for end in (1, 2):
        yield ".".join(found[end] if (found := _RANGE.fullmatch(c)) else c for c in prefix.split("."))


def _precision(prefix: str) -> tuple[int, int]:
    """How specific a prefix is: by its number of components, then by how few of them are ranges."""
    components = prefix.split(".")
    return len(components), -sum(_RANGE.fullmatch(component) is not None for component in components)


def _check_factor(prefix: str, factor: float) -> None:
    if factor == 0:
        raise ValueError(
            f"lr_factors: 0 for {prefix!r}: gradients would still be computed and batch norm statistics updated; "
            "use freeze instead"
        )
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"lr_factors: {factor} for {prefix!r}: expected a finite number above 0")


def _names(model: nn.Module) -> list[str]:
    """Every prefix of a parameter's name, including the full name."""
    names: dict[str, None] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        components = name.split(".")
        names.update(dict.fromkeys(".".join(components[: i + 1]) for i in range(len(components))))
    return list(names)


def _unknown(model: nn.Module, prefix: str, culprit: str) -> str:
    names = _names(model)
    reason = f"there is no {culprit!r}" if culprit != prefix else "it has no parameters"
    inside = [name for name in names if name.endswith(f".{culprit}")]  # the first components were forgotten
    near = (inside or difflib.get_close_matches(culprit, names))[:3]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    tops = ", ".join(name for name in names if "." not in name) or "none"
    return f"{prefix!r}: {reason}; {hint}names start with: {tops}"
