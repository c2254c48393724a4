"""The per-image state of a metric as a few flat arrays, so that it can be saved without pickles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Image id -> a tuple of arrays and of dictionaries of arrays, with the same structure for every image.
State = Mapping[int | str, tuple[Any, ...]]


def pack(state: State) -> tuple[list[int | str], dict[str, np.ndarray]]:
    """Ids, and two arrays for each array of an image: all images concatenated, and where each image starts."""
    rows = [_named(parts) for parts in state.values()]
    arrays: dict[str, np.ndarray] = {}
    for name in rows[0] if rows else ():
        parts = [np.asarray(row[name]) for row in rows]
        arrays[f"{name}|values"] = np.concatenate(parts)
        arrays[f"{name}|starts"] = np.cumsum([0, *map(len, parts)])
    return list(state), arrays


def _named(parts: tuple[Any, ...]) -> dict[str, Any]:
    """`#0.labels` is the entry `labels` of the first part, a dictionary; `#1` is the second part, an array."""
    names: dict[str, Any] = {}
    for i, part in enumerate(parts):
        names |= {f"#{i}.{key}": value for key, value in part.items()} if isinstance(part, Mapping) else {f"#{i}": part}
    return names


def unpack(ids: Sequence[int | str], arrays: Mapping[str, np.ndarray]) -> dict[int | str, tuple[Any, ...]]:
    """The inverse of `pack`."""
    found: dict[int | str, tuple[Any, ...]] = {}
    names = [key.removesuffix("|values") for key in arrays if key.endswith("|values")]
    for i, image in enumerate(ids):
        parts: dict[str, Any] = {}
        for name in names:
            start, end = arrays[f"{name}|starts"][i : i + 2]
            place, _, key = name.partition(".")
            values = arrays[f"{name}|values"][start:end]
            if key:
                parts.setdefault(place, {})[key] = values
            else:
                parts[place] = values
        found[image] = tuple(parts[f"#{i}"] for i in range(len(parts)))
    return found
