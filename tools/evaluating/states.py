"""The per-image state of a metric as a few flat arrays, so that it can be saved without pickles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...words import counted

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


def check(ids: Sequence[Any], arrays: Mapping[str, np.ndarray], parts: Mapping[str, tuple[str, int]]) -> None:
    """Raise ValueError if `unpack` would not give a state of these parts: kind of number and dimensions of each."""
    if not isinstance(ids, list) or not all(type(image) in (int, str) for image in ids) or len(set(ids)) < len(ids):
        raise ValueError("the images are not ids, each once")
    if not ids and not arrays:
        return
    if arrays.keys() != {f"{name}|{what}" for name in parts for what in ("values", "starts")}:
        raise ValueError(f"it has the arrays {sorted(arrays)}")
    shared: dict[str, np.ndarray] = {}
    for name, (kinds, dimensions) in parts.items():
        values, starts = arrays[f"{name}|values"], arrays[f"{name}|starts"]
        if values.dtype.kind not in kinds or values.shape[1:] != (4,) * (dimensions - 1):
            raise ValueError(f"{name} is {values.dtype} of shape {values.shape}")
        first = shared.setdefault(name.partition(".")[0] if "." in name else "", starts)
        if starts.dtype.kind != "i" or starts.shape != (len(ids) + 1,) or not np.array_equal(starts, first):
            raise ValueError(f"{name} does not say where each of {counted(len(ids), 'image')} starts")
        if starts[0] != 0 or starts[-1] != len(values) or (np.diff(starts) < 0).any():
            raise ValueError(f"{name} has {len(values)} values, but its images have others")


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
