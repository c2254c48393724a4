"""Masks whose colors encode the classes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ...words import counted

Color = tuple[int, int, int]


class ColorTable:
    """Maps colors to the class indices that a one-channel mask would contain.

    Args:
        colors: (number, RGB) of classes; two may share a color unless a picture uses it.
    """

    def __init__(self, colors: Iterable[tuple[int, Color]]) -> None:
        owners: dict[int, set[int]] = {}
        for number, color in colors:
            if not all(0 <= channel <= 255 for channel in color):
                raise ValueError(f"the color {color} of class {number}: expected red, green and blue from 0 to 255")
            red, green, blue = color
            owners.setdefault(red << 16 | green << 8 | blue, set()).add(number)
        self._shared = {code: sorted(numbers) for code, numbers in owners.items() if len(numbers) > 1}
        clear = sorted((code, *numbers) for code, numbers in owners.items() if len(numbers) == 1)
        self._codes = np.array([code for code, _ in clear], np.int32)
        self._numbers = np.array([number for _, number in clear], np.uint8)

    def content(self) -> Mapping[str, list[int]]:
        """For fingerprints."""
        return {"codes": self._codes.tolist(), "numbers": self._numbers.tolist()}

    def numbers(self, picture: np.ndarray, path: str | Path) -> np.ndarray:
        """uint8 [H, W] of a uint8 RGB picture [H, W, 3].

        Raises:
            ValueError: a color belongs to no class, or to several.
        """
        wide = picture.astype(np.int32)
        codes = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = self._codes[place] != codes if len(self._codes) else np.ones(codes.shape, bool)
        if unknown.any():
            found, counts = np.unique(codes[unknown], return_counts=True)
            order = np.argsort(-counts, kind="stable")
            self._refuse([(int(found[i]), int(counts[i])) for i in order], path)
        return self._numbers[place]

    def _refuse(self, found: list[tuple[int, int]], path: str | Path) -> None:
        for code, _ in found:
            if code in self._shared:
                raise ValueError(
                    f"{path} contains the color {_color(code)}, which several classes share (ids "
                    f"{self._shared[code]}): give each its own color, or ignore them with ignore_ids"
                )
        told = ", ".join(f"{_color(code)} ({counted(count, 'pixel')})" for code, count in found[:5])
        raise ValueError(
            f"{path} contains {len(found)} colors that belong to no class: "
            f"{told}{' ...' if len(found) > 5 else ''}. Remedy: "
            "add the colors to the class list, or ignore such pixels with ignore_colors; a JPEG never keeps "
            "colors exactly, and a mask of class indices has one channel"
        )


def _color(code: int) -> Color:
    return code >> 16, code >> 8 & 255, code & 255
