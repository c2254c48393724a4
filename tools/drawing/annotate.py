"""Readable pictures of boxes and masks: labels at any image size, in colors that most people can distinguish.

Images are uint8 RGB [H, W, 3]. Small ones are enlarged (`zoom_for`) to make room for text.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from ...datasets.labels import IGNORE, LabelMap
from ...words import counted
from .lettering import fitting_scale, put_text, text_size

Array = np.ndarray
Color = tuple[int, int, int]
Colors = Mapping[int, Color | None]

PAPER, INK, GREY = (255, 255, 255), (33, 37, 41), (150, 150, 150)
_READABLE = 480  # pixels; pictures whose longer side is shorter are enlarged

# Okabe and Ito's colors (jfly.uni-koeln.de/color), the most distinct first; their black would vanish in photographs.
_OKABE_ITO = (
    (0, 158, 115), (230, 159, 0), (0, 114, 178), (213, 94, 0), (240, 228, 66), (204, 121, 167), (86, 180, 233),
)  # fmt: skip
# Linear RGB as seen with deuteranopia (Machado et al. 2009, severity 1).
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]], np.float32
)


def palette(n: int) -> list[Color]:
    """`n` distinct colors, also for color-blind people; a longer palette begins with the shorter one."""
    return list(_long_palette(64 * math.ceil(n / 64)))[:n]


@lru_cache
def _long_palette(n: int) -> tuple[Color, ...]:
    """Okabe-Ito, then always the color farthest from all chosen ones, for normal and for deuteranope vision."""
    levels = np.linspace(0, 255, 16)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _perceived(grid)[:, 0]
    # Neither dark, pale nor gray: photographs are full of those.
    grid = grid[(lab[:, 0] > 35) & (lab[:, 0] < 88) & (np.linalg.norm(lab[:, 1:], axis=1) > 35)]
    colors = np.concatenate([np.array(_OKABE_ITO), grid])
    seen = _perceived(colors)
    chosen = list(range(len(_OKABE_ITO)))
    distance = np.min([_difference(seen, seen[i]) for i in chosen], axis=0)
    while len(chosen) < n:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, _difference(seen, seen[chosen[-1]]))
    return tuple((int(r), int(g), int(b)) for r, g, b in colors[chosen[:n]])


def _perceived(colors: Array) -> Array:
    """CIELAB [n, 2, 3] of RGB colors [n, 3] as most people and as deuteranopes see them."""
    rgb = colors / 255
    both = np.stack([rgb, np.clip(rgb**2.2 @ _DEUTERANOPIA.T, 0, 1) ** (1 / 2.2)], axis=1).astype(np.float32)
    return cv2.cvtColor(both, cv2.COLOR_RGB2LAB)


def _difference(seen: Array, one: Array) -> Array:
    return np.linalg.norm(seen - one, axis=-1).min(axis=-1)


def class_colors(labels: LabelMap) -> dict[int, Color | None]:
    """Each slot's own color, or one from the palette; None for a class named background, which stays untinted."""
    # Slot 1 gets the palette's first color, as in detection, unless slot 0 is a regular class and needs it.
    first = 1 if labels.names.get(0, "background") == "background" else 0
    colors = palette(labels.num_classes + 1)
    return {
        label.slot: None if label.name == "background" else label.color or colors[label.slot - first]
        for label in labels.labels
    }


def zoom_for(image: Array) -> int:
    """The integer factor by which a picture is enlarged before anything is drawn on it."""
    return max(1, round(_READABLE / max(image.shape[:2])))


def draw_detections(
    image: Array,
    boxes: Any,
    labels: Any,
    scores: Any = None,
    names: Mapping[int, str] | None = None,
    *,
    crowd: Any = None,
    colors: Colors | None = None,
    enlarge: bool = True,
) -> Array:
    """The image with boxes [N, 4] xyxy pixels, each with a label, and crowd regions [M, 4] dashed and hatched.

    Arrays may be numpy arrays, torch tensors or lists. The best scores are on top. Without `enlarge`, small images stay
    small.
    """
    boxes, labels = _array(boxes).reshape(-1, 4), _array(labels).reshape(-1).astype(int)
    scores = None if scores is None else _array(scores).reshape(-1)
    if len(labels) != len(boxes) or (scores is not None and len(scores) != len(boxes)):
        raise ValueError(
            f"{counted(len(boxes), 'box')}, {counted(len(labels), 'label')}, "
            f"{'no scores' if scores is None else counted(len(scores), 'score')}: "
            "expected one label (and score) for each box"
        )
    zoom, canvas = zoom_for(image) if enlarge else 1, _enlarge(image, enlarge)
    boxes = np.clip(boxes, 0, np.tile(image.shape[1::-1], 2))
    width, plates = _line_width(canvas), _Plates(canvas)
    order = np.arange(len(boxes)) if scores is None else np.argsort(-scores, kind="stable")
    box_colors = [_color_of(int(label), colors) or GREY for label in labels]
    crowd_boxes = zoom * _array([] if crowd is None else crowd).reshape(-1, 4)
    for box in crowd_boxes:
        _hatch_box(canvas, box, width)
    for i in order[::-1]:
        _box(canvas, boxes[i] * zoom, box_colors[i], width)
    for i in order:
        text = (names or {}).get(int(labels[i]), str(labels[i]))
        plates.add(text if scores is None else f"{text} {scores[i]:.2f}", boxes[i] * zoom, box_colors[i])
    for box in crowd_boxes:
        _box(canvas, box, GREY, width, dashed=True)
        plates.add("crowd", box, GREY)
    plates.paint()
    return canvas


def draw_mask(
    image: Array,
    mask: Any,
    colors: Colors | None = None,
    alpha: float = 0.6,
    *,
    names: Mapping[int, str] | None = None,
    enlarge: bool = True,
) -> Array:
    """The image in gray, tinted by class and outlined, ignored pixels (255) hatched; with `names`, a legend below it.

    Gray, because a tint over a color gives yet another color. A class whose color is None stays untinted; without
    `colors` this is slot 0. 255 may have a color, too. Without `enlarge` the picture keeps the image's size, and the
    legend is drawn over it, in class order, so that it stays the same from one video frame to the next.
    """
    mask = _array(mask).astype(np.uint8)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask is {mask.shape}, but its image is {image.shape[:2]}: expected the same (h, w)")
    zoom, canvas = zoom_for(image) if enlarge else 1, _enlarge(image, enlarge)
    # The median rounds the corners of enlarged pixels, and never invents a class.
    mask = cv2.medianBlur(mask.repeat(zoom, axis=0).repeat(zoom, axis=1), min(15, zoom // 2 * 2 + 1))
    pixels = np.bincount(mask.ravel(), minlength=256)
    present = [int(slot) for slot in np.argsort(-pixels[:IGNORE], kind="stable") if pixels[slot]]
    tints = {slot: color for slot in present if (color := _color_of(slot, colors)) is not None}
    table, strength = np.zeros((256, 3), np.float32), np.zeros(256, np.float32)
    for slot, color in tints.items():
        table[slot], strength[slot] = color, alpha
    width = _line_width(canvas)
    around = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    edge = cv2.dilate(mask, around) != cv2.erode(mask, around)
    weight = np.where(edge & (strength[mask] > 0), 1, strength[mask])[..., None]
    grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None]
    picture = grey + weight * (table[mask] - grey)
    hatched = bool(pixels[IGNORE]) and IGNORE not in (colors or {})
    if hatched:
        _hatch(picture, mask == IGNORE, width)
    picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    if names is None:
        return picture
    order = list(tints) if enlarge else sorted(tints)
    entries: list[tuple[str, Color | None]] = [(names.get(slot, str(slot)), tints[slot]) for slot in order]
    legend = _legend(entries + [("ignored", None)] * hatched, picture)
    return np.concatenate([picture, legend]) if enlarge else _laid_on(picture, legend)


def draw_caption(image: Array, lines: Sequence[str], color: Color = INK, *, enlarge: bool = True) -> Array:
    """The image with lines of text below it; without `enlarge`, over it."""
    canvas = _enlarge(image, enlarge)
    bars, size = [canvas], 1.5 * _text_scale(canvas)
    for text in lines:
        scale = fitting_scale(text, size, canvas.shape[1] - 4)
        scale = fitting_scale(text, scale, canvas.shape[1] - 4)  # again: widths aren't linear
        bar = _paper(round(1.3 * text_size("", size)[1]), canvas.shape[1])
        put_text(bar, text, (2, 0), scale, color)
        bars.append(bar)
    return (
        np.concatenate(bars) if enlarge else _laid_on(canvas, np.concatenate([_paper(0, canvas.shape[1]), *bars[1:]]))
    )


def side_by_side(images: Sequence[Array], titles: Sequence[str]) -> Array:
    """Pictures in a row, top-aligned, each below its title; small ones are enlarged."""
    if len(images) != len(titles):
        told = f"{counted(len(images), 'image')}, {counted(len(titles), 'title')}"
        raise ValueError(f"{told}: expected one title for each image")
    panels = []
    for image, title in zip(map(_enlarge, images), titles, strict=True):
        scale = fitting_scale(title, 1.15 * _text_scale(image), image.shape[1])
        bar = _paper(2 * text_size("", _text_scale(image))[1], image.shape[1])
        put_text(bar, title, (0, 0), scale, INK)
        panels.append(np.concatenate([bar, image]))
    return grid(panels, max(1, len(panels)))


def grid(images: Sequence[Array], columns: int) -> Array:
    """Pictures in rows of `columns`, each at the top center of a cell of the largest one's size."""
    if columns < 1:
        raise ValueError(f"columns={columns}: expected 1 or more")
    height, width = (max((image.shape[axis] for image in images), default=1) for axis in (0, 1))
    gap, columns = max(4, width // 60), max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    sheet = _paper(gap + rows * (height + gap), gap + columns * (width + gap))
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        y, x = gap + row * (height + gap), gap + column * (width + gap) + (width - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


class _Plates:
    """Labels inside the picture, side by side; those without room are dropped: the color shows the class."""

    def __init__(self, canvas: Array) -> None:
        self.canvas, self.scale = canvas, _text_scale(canvas)
        self.placed: list[tuple[tuple[int, int, int, int], str, float, Color]] = []

    def add(self, text: str, box: Array, color: Color) -> None:
        height, width = self.canvas.shape[:2]
        pad = max(2, round(6 * self.scale))
        scale = fitting_scale(text, self.scale, width - 2 * pad)
        w, h = (size + extra for size, extra in zip(text_size(text, scale), (2 * pad, pad), strict=True))
        x1, y1, x2, y2 = (int(value) for value in np.rint(box))
        wishes = (  # the best spots first
            (x1, y1 - h),
            (x1, y2),
            (x2 - w, y1 - h),
            (x2 - w, y2),
            (x1, y1),
            (x2, y1),
            (x1, y2 - h),
            (x1 - w, y1),
        )
        spots = [(max(0, min(x, width - w)), max(0, min(y, height - h)), w, h) for x, y in wishes]
        overlaps = [sum(_overlap(spot, other[0]) for other in self.placed) for spot in spots]
        best = int(np.argmin(overlaps))
        if overlaps[best] <= 0.1 * w * h:
            self.placed.append((spots[best], text, scale, color))

    def paint(self) -> None:
        for (x, y, w, h), text, scale, color in reversed(self.placed):
            cv2.rectangle(self.canvas, (x, y), (x + w - 1, y + h - 1), color, cv2.FILLED)
            text_width, text_height = text_size(text, scale)
            put_text(self.canvas, text, (x + (w - text_width) // 2, y + (h - text_height) // 2), scale, ink_on(color))


def ink_on(color: Color) -> Color:
    """Black or white, whichever is easier to read on `color` (WCAG relative luminance)."""
    luminance = (np.array(color) / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    """Common area of two x, y, w, h."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)


def _box(canvas: Array, box: Array, color: Color, width: int, *, dashed: bool = False) -> None:
    """A box with a dark outline, which keeps it visible on a background of its own color."""
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    corners = [(x1, y1), (x2 - 1, y1), (x2 - 1, y2 - 1), (x1, y2 - 1)]
    for stroke, thickness in ((INK, width + 2), (color, width)):
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            for a, b in _dashes(start, end, 5 * width) if dashed else [(start, end)]:
                cv2.line(canvas, a, b, stroke, thickness, cv2.LINE_AA)


def _dashes(start: tuple[int, int], end: tuple[int, int], length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Every other piece of a line, beginning and ending with one."""
    number = max(1, round(math.dist(start, end) / length)) // 2 * 2 + 1
    points = [tuple(np.rint(p).astype(int).tolist()) for p in np.linspace(start, end, number + 1)]
    return list(zip(points[::2], points[1::2], strict=True))


def _hatch_box(canvas: Array, box: Array, width: int) -> None:
    """Draw translucent diagonal lines over a region."""
    height, right = canvas.shape[:2]
    x1, y1, x2, y2 = np.clip(np.rint(box), 0, (right, height, right, height)).astype(int)
    region = canvas[y1:y2, x1:x2]
    rows, columns = np.indices(region.shape[:2])
    line = (rows + columns) % (6 * width) < width
    region[line] = (0.5 * region[line] + 0.5 * 255).astype(np.uint8)


def _hatch(picture: Array, where: Array, width: int) -> None:
    """Fade the pixels of a float picture and draw diagonal lines over them."""
    rows, columns = np.nonzero(where)
    line = (rows + columns) % (6 * width) < width
    picture[rows, columns] = 0.5 * picture[rows, columns] + np.where(line, 0.5 * 255, 0.5 * 90)[:, None]


def _laid_on(picture: Array, strip: Array) -> Array:
    """The picture with a strip over its lower edge, cropped to half of the picture."""
    strip = strip[: picture.shape[0] // 2]
    picture = picture.copy()
    under = picture[picture.shape[0] - len(strip) :]
    under[:] = (0.8 * strip + 0.2 * under).astype(np.uint8)
    return picture


def _legend(entries: Sequence[tuple[str, Color | None]], picture: Array) -> Array:
    """A strip as wide as the picture with a swatch for each entry; a color of None is hatched."""
    scale, width = _text_scale(picture), picture.shape[1]
    line = round(1.6 * text_size("", scale)[1])
    swatch, gap = round(0.6 * line), round(0.3 * line)
    spots, x, y = [], gap, gap
    for text, color in entries:
        small = fitting_scale(text, scale, width - swatch - 3 * gap)
        needed = swatch + 2 * gap + text_size(text, small)[0] + gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        spots.append((x, y, text, small, color))
        x += needed + gap
    strip = _paper(y + line + gap if entries else 0, width)
    for x, y, text, small, color in spots:
        tile = strip[y + (line - swatch) // 2 :, x:][:swatch, :swatch]
        if color is None:
            faded = np.full(tile.shape, 90, np.float32)
            _hatch(faded, np.ones(tile.shape[:2], bool), max(1, swatch // 8))
            tile[:] = faded.astype(np.uint8)
        else:
            tile[:] = color
        put_text(strip, text, (x + swatch + gap, y + (line - text_size(text, small)[1]) // 2), small, INK)
    return strip


def _color_of(slot: int, colors: Colors | None) -> Color | None:
    """The given color, or one from the palette, which starts at slot 1."""
    if colors is not None and slot in colors:
        return colors[slot]
    return palette(slot)[-1] if slot > 0 else None


def _extent(canvas: Array) -> float:
    """The length that lines and text scale with: the longer side, or less for panoramas."""
    return min(max(canvas.shape[:2]), 2.5 * min(canvas.shape[:2]))


def _line_width(canvas: Array) -> int:
    return max(2, round(_extent(canvas) / 320))


def _text_scale(canvas: Array) -> float:
    return max(0.45, _extent(canvas) / 1280)


def _paper(height: int, width: int) -> Array:
    return np.full((height, width, 3), PAPER, np.uint8)


def _enlarge(image: Array, enlarge: bool = True) -> Array:
    """A copy, enlarged by `zoom_for` if asked for."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is {image.dtype} {image.shape}: expected uint8 (h, w, 3) RGB")
    zoom = zoom_for(image) if enlarge else 1
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image.copy()


def _array(values: Any) -> Array:
    """A numpy array from numpy, lists, or a torch tensor on any device."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)
