"""A drawing of rectangles, lines and words that becomes SVG for the page and a picture for a file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np

from .html import Markup, element, join

Color = tuple[int, int, int]
Paint = Color | str  # RGB, or one of the page's own colours, which are others in the dark
Point = tuple[float, float]

THEME: dict[str, Color] = {
    "ink": (33, 37, 41),
    "muted": (96, 104, 112),
    "line": (222, 226, 230),
    "paper": (255, 255, 255),
}
_ZOOM = 2  # pixels of the picture for one unit
_DASH = 9  # pixels
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP = 22.0  # height of the font's capitals in pixels at scale 1


def css(paint: Paint) -> str:
    return f"var(--{paint})" if isinstance(paint, str) else f"rgb({paint[0]},{paint[1]},{paint[2]})"


@dataclass(frozen=True)
class Rectangles:
    """Rectangles x, y, width, height of one colour."""

    places: Sequence[tuple[float, float, float, float]]
    paint: Paint
    opacity: float = 1.0
    tip: str = ""

    def svg(self) -> Markup:
        path = "".join(f"M{x:.5g} {y:.5g}h{w:.4g}v{h:.4g}h{-w:.4g}z" for x, y, w, h in self.places)
        opacity = None if self.opacity == 1 else f"{self.opacity:.3g}"
        return element("path", _title(self.tip), d=path, style=f"fill:{css(self.paint)}", fill_opacity=opacity)

    def paint_on(self, picture: np.ndarray) -> None:
        for x, y, w, h in self.places:
            left, top, right, bottom = (round(_ZOOM * v) for v in (x, y, x + w, y + h))
            part = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
            part[:] = (1 - self.opacity) * part + self.opacity * np.array(_rgb(self.paint))


@dataclass(frozen=True)
class Line:
    """A line through points; `faint` ones stay in the background."""

    points: Sequence[Point]
    paint: Paint
    width: float = 2.0
    faint: bool = False
    dashed: bool = False
    tip: str = ""

    def svg(self) -> Markup:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)
        dashes = "5 4" if self.dashed else None
        return element(
            "polyline", _title(self.tip), points=points, class_="faint" if self.faint else None,
            style=f"stroke:{css(self.paint)}", stroke_width=self.width, stroke_dasharray=dashes,
        )  # fmt: skip

    def paint_on(self, picture: np.ndarray) -> None:
        color, strength = np.array(_rgb(self.paint)), 0.35 if self.faint else 1.0
        corners = np.rint(_ZOOM * np.array(self.points, float).reshape(-1, 2)).astype(np.int32)
        color = tuple((strength * color + (1 - strength) * np.array(THEME["paper"])).astype(int).tolist())
        pieces = [corners] if not self.dashed else _dashes(corners)
        cv2.polylines(picture, pieces, False, color, max(1, round(_ZOOM * self.width)), cv2.LINE_AA)


@dataclass(frozen=True)
class Words:
    """Text whose baseline begins, has its middle or ends at (x, y); `upward` turns it by a quarter."""

    words: str
    x: float
    y: float
    size: float = 12.0
    anchor: str = "start"  # start, middle, end
    paint: Paint = "ink"
    upward: bool = False

    def svg(self) -> Markup:
        turn = f"rotate(-90 {self.x:.5g} {self.y:.5g})" if self.upward else None
        anchor = None if self.anchor == "start" else self.anchor
        return element(
            "text", self.words, x=f"{self.x:.5g}", y=f"{self.y:.5g}", font_size=f"{self.size:.3g}",
            text_anchor=anchor, transform=turn, style=f"fill:{css(self.paint)}",
        )  # fmt: skip

    def paint_on(self, picture: np.ndarray) -> None:
        scale, words = _ZOOM * self.size * 0.72 / _CAP, self.words.replace("\N{HORIZONTAL ELLIPSIS}", "..")
        (width, height), below = cv2.getTextSize(words, _FONT, scale, 1)
        tile = np.zeros((height + below + 4, width + 4), np.uint8)
        cv2.putText(tile, words, (2, height + 1), _FONT, scale, 255, 1, cv2.LINE_AA)
        before = {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        left, top = _ZOOM * self.x - before - 2, _ZOOM * self.y - height - 1
        if self.upward:
            tile = np.rot90(tile)
            left, top = _ZOOM * self.x - height - 1, _ZOOM * self.y + before + 2 - tile.shape[0]
        _blend(picture, tile, round(left), round(top), _rgb(self.paint))


@dataclass
class Canvas:
    """Shapes on a sheet; `title` and `summary` are what a screen reader says."""

    width: float
    height: float
    title: str
    summary: str = ""
    shapes: list[Rectangles | Line | Words] = field(default_factory=list)

    def add(self, *shapes: Rectangles | Line | Words) -> None:
        self.shapes += shapes

    def svg(self, *, name: str | None = None) -> Markup:
        label = f"{self.title}: {self.summary}" if self.summary else self.title
        return element(
            "svg", join([shape.svg() for shape in self.shapes]), viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img", aria_label=label, id=name, class_="chart",
        )  # fmt: skip

    def picture(self) -> np.ndarray:
        """uint8 RGB, in the colours of daylight, under its title."""
        bar = 28
        picture = np.full((round(_ZOOM * (self.height + bar)), round(_ZOOM * self.width), 3), THEME["paper"], np.uint8)
        Words(self.title, 12, 19, 14).paint_on(picture)
        for shape in self.shapes:
            shape.paint_on(picture[_ZOOM * bar :])
        return picture


def _title(tip: str) -> Markup | None:
    return element("title", tip) if tip else None


def _rgb(paint: Paint) -> Color:
    return THEME[paint] if isinstance(paint, str) else paint


def _dashes(corners: np.ndarray) -> list[np.ndarray]:
    """Pieces of a line, as long as the gaps between them, however many corners it has."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    ends = np.arange(0, along[-1] + _DASH, _DASH)
    points = np.stack([np.interp(ends, along, corners[:, axis]) for axis in (0, 1)], axis=1)
    pairs = list(pairwise(np.rint(points).astype(np.int32)))
    return [np.stack(pair) for pair in pairs[::2]]


def _blend(picture: np.ndarray, tile: np.ndarray, left: int, top: int, color: Color) -> None:
    """Paint through a stencil, as far as it lies inside the picture."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = max(0, left), max(0, top), min(width, left + tile.shape[1]), min(height, top + tile.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    weight = tile[y1 - top : y2 - top, x1 - left : x2 - left, None] / 255
    part = picture[y1:y2, x1:x2]
    part[:] = (1 - weight) * part + weight * np.array(color)
