"""Bars of stages, as pictures (uint8 RGB)."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..drawing.annotate import GREY, INK, palette
from .case import Case
from .timing import Spread

_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_LEFT, WIDTH, _LINE = 190, 1000, 26  # pixels: names, the whole picture, one bar
_REST = "rest"  # of a whole call that its stages leave


def draw_bars(cases: Sequence[Case]) -> np.ndarray:
    """Every case below the last, a bar of stages for every variant, its length the median time."""
    blocks = [_bars(case) for case in cases]
    return np.concatenate(blocks)


def _bars(case: Case) -> np.ndarray:
    canvas = np.full((_LINE * (len(case.rows) + 3), WIDTH, 3), 255, np.uint8)
    stages = list(case.rows[0].times.stages)
    colors = dict(zip([*stages, _REST], [*palette(len(stages)), GREY], strict=True))
    write_text(canvas, case.title, (10, 20))
    x = _LEFT
    for stage in stages:
        cv2.rectangle(canvas, (x, _LINE + 6), (x + 12, _LINE + 18), colors[stage], -1)
        x = write_text(canvas, stage, (x + 18, _LINE + 17)) + 24
    longest = max(Spread.of(row.times.whole).median for row in case.rows)
    for i, row in enumerate(case.rows):
        y, whole = _LINE * (i + 2), Spread.of(row.times.whole)
        write_text(canvas, row.name, (10, y + 17))
        for stage, start, end in segments(row.times.stages, whole.median):
            left, right = (_LEFT + round((WIDTH - _LEFT - 190) * t / longest) for t in (start, end))
            cv2.rectangle(canvas, (left, y + 4), (max(left, right), y + _LINE - 6), colors[stage], -1)
        end = _LEFT + round((WIDTH - _LEFT - 190) * whole.median / longest)
        write_text(canvas, f"{1e3 * whole.median:.1f} ms, x {row.ratio:.2f}", (end + 8, y + 17))
    return canvas


def segments(stages: Mapping[str, Sequence[float]], whole: float) -> list[tuple[str, float, float]]:
    """(stage, start, end) in seconds that fill `whole`; stages whose sum is longer are shrunk to it."""
    medians = {name: Spread.of(times).median for name, times in stages.items()}
    total = sum(medians.values())
    factor = min(1.0, whole / total) if total else 0.0
    found, at = [], 0.0
    for name, seconds in medians.items():
        found.append((name, at, at + seconds * factor))
        at += seconds * factor
    if whole - at > 1e-3 * whole:
        found.append((_REST, at, whole))
    return found


def write_text(canvas: np.ndarray, text: str, corner: tuple[int, int]) -> int:
    """Write, and give the x behind it."""
    cv2.putText(canvas, text, corner, _FONT, _SCALE, INK, 1, cv2.LINE_AA)
    return corner[0] + cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0]
