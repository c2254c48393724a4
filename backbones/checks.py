"""Checks of options, with errors that name the option."""

import math
from collections.abc import Collection


def check_number(name: str, value: float, *, least: float = 0.0, most: float = math.inf, whole: bool = False) -> None:
    """Raise ValueError unless it is a finite number (an integer if `whole`) from `least` to `most`."""
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not (least <= value <= most and math.isfinite(value)):
        limits = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
        raise ValueError(f"{name}={value}: expected {'an integer' if whole else 'a number'} {limits}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in tuple(choices):
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}")
