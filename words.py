"""Numbers with the noun that they count. Imports no other module of the package, so that every module may use it."""

from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2,000 images`; with a verb `counted(n, "box lies", "boxes lie")`.

    Args:
        many: what stands after any other number; by default the plural of the last word of `one`.
    """
    return f"{number:,} {one if number == 1 else many or _plural(one)}"


def _plural(one: str) -> str:
    if one.endswith("y") and one[-2:-1] not in "aeiou":
        return f"{one[:-1]}ies"
    return f"{one}es" if one.endswith(("s", "x", "z", "tch", "sh")) else f"{one}s"


def verb(number: float, one: str, many: str) -> str:
    """`has` after one, `have` after all other numbers: for `1 of 3 classes has`."""
    return one if number == 1 else many


def listed(names: Sequence[str], most: int = 8) -> str:
    """The names of classes, the first `most` of them."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {counted(more, 'more class', 'more classes')}" if more > 0 else "")
