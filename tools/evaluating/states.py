"""The per-image state of a metric as a few flat arrays, so that it can be saved without pickles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

State = Mapping[
    int | str, Any
]  # image id -> tuples and dictionaries of arrays, with the same structure for every image


def pack(state: State) -> tuple[list[int | str], dict[str, np.ndarray]]:
    """Ids, and two arrays for each array of an image: all images concatenated, and where each image starts."""
    ids = list(state)
    rows = [dict(_leaves(state[image])) for image in ids]
    arrays: dict[str, np.ndarray] = {}
    for name in rows[0] if rows else ():
        parts = [np.asarray(row[name]) for row in rows]
        arrays[f"{name}|values"] = np.concatenate(parts)
        arrays[f"{name}|starts"] = np.cumsum([0, *map(len, parts)])
    return ids, arrays


def unpack(ids: Sequence[int | str], arrays: Mapping[str, np.ndarray]) -> dict[int | str, Any]:
    """The inverse of `pack`."""
    names = [key.removesuffix("|values") for key in arrays if key.endswith("|values")]
    columns = {name: (arrays[f"{name}|values"], arrays[f"{name}|starts"]) for name in names}
    return {
        image: _tree({name: values[starts[i] : starts[i + 1]] for name, (values, starts) in columns.items()})
        for i, image in enumerate(ids)
    }


def _leaves(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(content, Mapping):
        return [leaf for key, value in content.items() for leaf in _leaves(value, f"{prefix}.{key}")]
    if isinstance(content, tuple):
        return [leaf for i, value in enumerate(content) for leaf in _leaves(value, f"{prefix}#{i}")]
    return [(prefix, content)]


def _tree(leaves: Mapping[str, np.ndarray]) -> Any:
    """`#0.labels` is the entry `labels` of the first dictionary in the tuple."""
    if list(leaves) == [""]:
        return leaves[""]
    groups: dict[str, dict[str, np.ndarray]] = {}
    for path, array in leaves.items():
        end = min((i for i in range(1, len(path)) if path[i] in "#."), default=len(path))
        groups.setdefault(path[:end], {})[path[end:]] = array
    content = {head: _tree(group) for head, group in groups.items()}
    if all(head.startswith("#") for head in content):
        return tuple(content[f"#{i}"] for i in range(len(content)))
    return {head[1:]: value for head, value in content.items()}
