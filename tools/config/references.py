"""References to other keys in a configuration: the size once they are replaced, found before, and replacing them.

References may double: `b: ${a}${a}`, `c: ${b}${b}` and so on fill any memory within a few lines.
"""

import re
from collections.abc import Mapping, Sequence
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


def replaced(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Some keys of a configuration that passed `check_size`, as plain values; much faster than OmegaConf.

    Raises:
        ValueError: a reference leads nowhere, or to itself.
    """
    values = _Values(config)
    try:
        return {key: values.of(config[key], (key,)) for key in keys if key in config}
    except RecursionError:
        raise ValueError(f"{_BROKEN}: a reference leads to itself") from None


class _Lookup:
    def __init__(self, whole: Mapping[Any, Any]) -> None:
        self._whole = whole

    def _target(self, text: str, place: Place, ways: int = 0) -> tuple[Any, Place] | None:
        """What a reference at `place` refers to, and where that is; None if there is nothing."""
        if ways > _LONGEST_WAY:
            raise ValueError(f"{_BROKEN}: ${{{text}}} leads nowhere")
        name = text.lstrip(".")
        up = len(text) - len(name)
        node: Any = self._whole
        if up > len(place):
            return None
        where = place[: len(place) - up] if up else ()
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


class _Values(_Lookup):
    """Values with all references replaced."""

    def of(self, node: Any, place: Place) -> Any:
        if isinstance(node, str):
            if whole := _REFERENCE.fullmatch(node):
                return self._at(whole[1], place)
            return _REFERENCE.sub(lambda found: str(self._at(found[1], place)), node)
        if isinstance(node, Mapping):
            return {key: self.of(value, (*place, key)) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self.of(value, (*place, i)) for i, value in enumerate(node)]
        return node

    def _at(self, text: str, place: Place) -> Any:
        if (found := self._target(text, place)) is None:
            raise ValueError(f"{_BROKEN}: ${{{text}}} leads nowhere")
        return self.of(*found)


class _Sizes(_Lookup):
    def __init__(self, whole: Mapping[Any, Any]) -> None:
        super().__init__(whole)
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
