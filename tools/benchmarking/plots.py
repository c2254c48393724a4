"""Bars of stages and lines of growth, as pictures (uint8 RGB)."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..drawing.annotate import GREY, INK, palette
from .case import Case
from .timing import Spread

_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_LEFT, _WIDTH, _LINE = 190, 1000, 26  # pixels: names, the whole picture, one bar
_REST = "rest"  # of a whole call that its stages leave


def draw_bars(cases: Sequence[Case]) -> np.ndarray:
    """Every case below the last, a bar of stages for every variant, its length the median time."""
    blocks = [_bars(case) for case in cases]
    return np.concatenate(blocks)


def _bars(case: Case) -> np.ndarray:
    canvas = np.full((_LINE * (len(case.rows) + 3), _WIDTH, 3), 255, np.uint8)
    stages = list(case.rows[0].times.stages)
    colors = dict(zip([*stages, _REST], [*palette(len(stages)), GREY], strict=True))
    _text(canvas, case.title, (10, 20))
    x = _LEFT
    for stage in stages:
        cv2.rectangle(canvas, (x, _LINE + 6), (x + 12, _LINE + 18), colors[stage], -1)
        x = _text(canvas, stage, (x + 18, _LINE + 17)) + 24
    longest = max(Spread.of(row.times.whole).median for row in case.rows)
    for i, row in enumerate(case.rows):
        y, whole = _LINE * (i + 2), Spread.of(row.times.whole)
        _text(canvas, row.name, (10, y + 17))
        for stage, start, end in segments(row.times.stages, whole.median):
            left, right = (_LEFT + round((_WIDTH - _LEFT - 190) * t / longest) for t in (start, end))
            cv2.rectangle(canvas, (left, y + 4), (max(left, right), y + _LINE - 6), colors[stage], -1)
        end = _LEFT + round((_WIDTH - _LEFT - 190) * whole.median / longest)
        _text(canvas, f"{1e3 * whole.median:.1f} ms, x {row.ratio:.2f}", (end + 8, y + 17))
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


def draw_growth(title: str, axis: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Time over size, both axes logarithmic; a line of (size, seconds) for every variant."""
    height, bottom, top = 560, 60, 60
    canvas = np.full((height, _WIDTH, 3), 255, np.uint8)
    xs = [math.log(x) for points in lines.values() for x, _ in points]
    ys = [math.log(y) for points in lines.values() for _, y in points]

    def at(x: float, y: float) -> tuple[int, int]:
        across = (math.log(x) - min(xs)) / max(max(xs) - min(xs), 1e-9)
        up = (math.log(y) - min(ys)) / max(max(ys) - min(ys), 1e-9)
        return 90 + round(across * (_WIDTH - 330)), height - bottom - round(up * (height - bottom - top))

    _text(canvas, title, (10, 22))
    for x in sorted({x for points in lines.values() for x, _ in points}):
        _text(canvas, f"{x:,.0f}", (at(x, math.exp(min(ys)))[0] - 12, height - 35))
    _text(canvas, axis, (_WIDTH // 2 - 100, height - 12))
    for y in (math.exp(min(ys)), math.exp((min(ys) + max(ys)) / 2), math.exp(max(ys))):
        _text(canvas, f"{1e3 * y:.3g} ms", (8, at(math.exp(min(xs)), y)[1] + 5))
        cv2.line(canvas, (85, at(1, y)[1]), (_WIDTH - 240, at(1, y)[1]), (225, 225, 225), 1)
    for (name, points), color in zip(lines.items(), palette(len(lines)), strict=True):
        corners = np.array([at(x, y) for x, y in points], np.int32)
        cv2.polylines(canvas, [corners], False, color, 2, cv2.LINE_AA)
        for corner in corners:
            cv2.circle(canvas, tuple(map(int, corner)), 4, color, -1, cv2.LINE_AA)
        _text(canvas, name, (int(corners[-1][0]) + 10, int(corners[-1][1]) + 5))
    return canvas


def _text(canvas: np.ndarray, text: str, corner: tuple[int, int]) -> int:
    """Write, and give the x behind it."""
    cv2.putText(canvas, text, corner, _FONT, _SCALE, INK, 1, cv2.LINE_AA)
    return corner[0] + cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0]
