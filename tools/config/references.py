"""The size of a configuration once its references are replaced, found without replacing them.

References may double: `b: ${a}${a}`, `c: ${b}${b}` and so on fill any memory within a few lines.
"""

import re
from collections.abc import Mapping
from typing import Any

Place = tuple[Any, ...]  # keys and indices
Size = tuple[int, int]  # keys and values, characters
_REFERENCE = re.compile(r"\$\{([\w.]+)\}", re.ASCII)
_BROKEN = "the checkpoint's configuration cannot be resolved"
_LONGEST_WAY = 200  # references that refer to references


def check_size(config: Mapping[Any, Any], *, nodes: int, characters: int) -> None:
    """Raise ValueError if the configuration, its references replaced, is larger than this."""
    sizes = _Sizes(config)
    try:
        found = sizes.of(config, ())
    except RecursionError:
        raise ValueError(f"{_BROKEN}: its references are too many levels deep") from None
    for number, most, what in zip(found, (nodes, characters), ("keys and values", "characters"), strict=True):
        if number > most:
            raise ValueError(f"{_BROKEN}: its references give more than {most:,} {what}")


class _Sizes:
    def __init__(self, whole: Mapping[Any, Any]) -> None:
        self._whole = whole
        self._known: dict[Place, Size] = {}

    def of(self, node: Any, place: Place) -> Size:
        if place not in self._known:
            self._known[place] = (0, 0)  # what contains itself is found by the resolving, which is soon too deep
            self._known[place] = self._sum(node, place)
        return self._known[place]

    def _sum(self, node: Any, place: Place) -> Size:
        parts: list[Size] = []
        if isinstance(node, str):
            for text in _REFERENCE.findall(node):
                if (found := self._target(text, place)) is not None:
                    parts.append(self.of(*found))
            parts.append((0, len(node)))
        elif isinstance(node, Mapping | list | tuple):
            pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
            parts = [self.of(value, (*place, key)) for key, value in pairs]
            parts.append((len(parts), 0))
        return 1 + sum(size[0] for size in parts), sum(size[1] for size in parts)

    def _target(self, text: str, place: Place, ways: int = 0) -> tuple[Any, Place] | None:
        """What a reference at `place` refers to, and where that is; None if there is nothing."""
        if ways > _LONGEST_WAY:
            raise ValueError(f"{_BROKEN}: ${{{text}}} leads nowhere")
        name = text.lstrip(".")
        up = len(text) - len(name)
        node: Any = self._whole
        where = place[: max(0, len(place) - up)] if up else ()
        for key in where:
            node = node[key]
        for key in name.split(".") if name else ():
            if isinstance(node, str) and (whole := _REFERENCE.fullmatch(node)):
                if (found := self._target(whole[1], where, ways + 1)) is None:
                    return None
                node, where = found
            try:
                step: Any = int(key) if isinstance(node, list | tuple) else key
                node, where = node[step], (*where, step)
            except (LookupError, TypeError, ValueError):  # the resolving will find it out
                return None
        return node, where
