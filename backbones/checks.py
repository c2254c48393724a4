"""Values of options, refused by name."""

import math


def check_number(name: str, value: float, *, least: float = 0.0, most: float = math.inf, whole: bool = False) -> None:
    """Raise ValueError unless it is a finite number (a `whole` one) from `least` to `most`."""
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not (least <= value <= most and math.isfinite(value)):
        limits = f"from {least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
        raise ValueError(f"{name}={value}: expected a {'whole ' * whole}number, {limits}")
