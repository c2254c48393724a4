"""Pictures of a data set in numbers: classes, sizes, and anchors against boxes."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ...datasets.checking.statistics import Statistics, class_names
from ..drawing.annotate import palette
from ..drawing.canvas import Canvas, Color, Line, Rectangles, Words
from ..drawing.charts import WIDTH, bar_chart, shorten
from .anchors import Anchors, Matches

SPLIT_COLORS: dict[str, Color] = {"train": (0, 114, 178), "val": (230, 159, 0)}
_MAX_BARS = 40  # classes; of more the most and the least frequent
_LOW = 1.0  # pixels at which the axes of sizes begin
_CELLS = 48  # of an axis of the heat map
_PLOT = (52.0, 12.0, 330.0, 330.0)  # left, top, width, height of the heat map


def charts_of(
    splits: Mapping[str, Statistics], anchors: Anchors | None, matches: Mapping[str, Matches]
) -> dict[str, Canvas]:
    """The charts that a data set's kind has, by the names of their files."""
    first = next(iter(splits.values()))
    names = class_names(splits)
    if first.kind == "detection":
        charts = {
            "classes": _classes("Boxes by class", names, _examples(splits)),
            "boxes_an_image": _boxes_an_image(splits),
            "sizes": _sizes(splits, anchors),
        }
        if anchors is not None:
            charts["anchors"] = _levels(anchors, matches)
        return charts
    if first.kind == "segmentation":
        shares = {s: _share(v.counts.examples, sum(v.counts.examples.values())) for s, v in splits.items()}
        images = {s: _share(v.counts.images, v.num_images) for s, v in splits.items()}
        return {
            "classes": _classes("Pixels by class, % of those that count", names, shares, form="{:.2f}"),
            "images": _classes("Images that have a class, %", names, images, form="{:.1f}"),
        }
    return {"classes": _classes("Images by class", names, _examples(splits))}


def _examples(splits: Mapping[str, Statistics]) -> dict[str, dict[int, float]]:
    return {split: {slot: float(n) for slot, n in s.counts.examples.items()} for split, s in splits.items()}


def _share(counts: Mapping[int, int], whole: int) -> dict[int, float]:
    return {slot: 100 * count / max(whole, 1) for slot, count in counts.items()}


def _classes(
    title: str, names: Mapping[int, str], values: Mapping[str, Mapping[int, float]], *, form: str = "{:,.0f}"
) -> Canvas:
    """A bar of each split for each class, the most frequent first, by the first split."""
    first = next(iter(values.values()), {})
    slots = sorted(names, key=lambda slot: (-first.get(slot, 0), names[slot]))
    if len(slots) > _MAX_BARS:
        half = _MAX_BARS // 2
        title = f"{title}: the {half} first and the {half} last of {len(slots)}"
        slots = [*slots[:half], *slots[-half:]]
    height, bar = 6 + 11 * len(values), 10
    canvas = Canvas(WIDTH, height * len(slots) + 34, title)
    largest = max((v for split in values.values() for v in split.values()), default=0) or 1
    for row, slot in enumerate(slots):
        y = row * height + 4
        canvas.add(Words(shorten(names[slot], 20), 136, y + height / 2 + 2, 11, "end"))
        for number, (split, of_class) in enumerate(values.items()):
            value = of_class.get(slot, 0)
            top, length = y + 11 * number, 190 * value / largest
            text = form.format(value)
            canvas.add(
                Rectangles([(142, top, max(length, 0.5), bar)], SPLIT_COLORS[split], tip=f"{names[slot]}: {text}"),
                Words(text, 146 + length, top + 9, 10, paint="muted"),
            )
    _legend(canvas, [(split, SPLIT_COLORS[split]) for split in values], height * len(slots) + 24)
    return canvas


def _legend(
    canvas: Canvas, entries: Sequence[tuple[str, Color]], y: float, *, x: float = 142, step: float = 80
) -> None:
    for number, (name, color) in enumerate(entries):
        canvas.add(Rectangles([(x + step * number, y - 9, 10, 10)], color), Words(name, x + step * number + 15, y, 11))


def _boxes_an_image(splits: Mapping[str, Statistics]) -> Canvas:
    """What share of the images has so many boxes."""
    most = max((int(s.boxes_an_image.max(initial=0)) for s in splits.values()), default=0)
    edges = [0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128]
    edges = [*[edge for edge in edges if edge <= most], most + 1]
    groups = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in pairwise(edges)]
    series = []
    for split, of_split in splits.items():
        counts, _ = np.histogram(of_split.boxes_an_image, np.array(edges) - 0.5)
        shares = 100 * counts / max(len(of_split.boxes_an_image), 1)
        series.append((split, shares.tolist(), SPLIT_COLORS[split]))
    return bar_chart("Boxes an image", groups, series, axis="% of the images", form="{:.1f}")


def _sizes(splits: Mapping[str, Statistics], anchors: Anchors | None) -> Canvas:
    """A heat map of widths and heights in the network's input, on logarithmic axes, with the anchors' shapes on it."""
    left, top, width, height = _PLOT
    boxes = np.concatenate([s.boxes for s in splits.values()])
    limit = max([*(anchors.input_size if anchors else ()), float(boxes.max(initial=2 * _LOW))])
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], _LOW, limit)
    canvas = Canvas(WIDTH, top + height + 62, "Widths and heights of boxes in pixels of the input", "log scales")
    span = math.log(limit / _LOW)

    def place(sides: tuple[float, float]) -> tuple[float, float]:
        x, y = (min(max(math.log(side / _LOW) / span, 0.0), 1.0) for side in sides)
        return left + x * width, top + (1 - y) * height

    cells = (np.log(sides / _LOW) / span * _CELLS).astype(int).clip(0, _CELLS - 1)
    counts = np.zeros((_CELLS, _CELLS), int)
    np.add.at(counts, (cells[:, 1], cells[:, 0]), 1)
    shades = np.ceil(8 * np.log1p(counts) / max(math.log1p(counts.max(initial=0)), 1e-9)).astype(int)
    size = width / _CELLS
    for shade in range(1, 9):
        spots = [(left + x * size, top + (_CELLS - 1 - y) * size, size, size) for y, x in np.argwhere(shades == shade)]
        if spots:
            canvas.add(Rectangles(spots, SPLIT_COLORS["train"], opacity=0.1 + 0.1 * shade))
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048) if _LOW <= tick <= limit]
    for tick in ticks:
        x, y = place((tick, tick))
        canvas.add(
            Line([(x, top), (x, top + height)], "line", width=0.5),
            Line([(left, y), (left + width, y)], "line", width=0.5),
            Words(str(tick), x, top + height + 15, 11, "middle", "muted"),
            Words(str(tick), left - 6, y + 4, 11, "end", "muted"),
        )
    canvas.add(
        Words("width", left + width / 2, top + height + 30, 11.5, "middle", "muted"),
        Words("height", 12, top + height / 2, 11.5, "middle", "muted", upward=True),
    )
    if anchors is not None:
        colors = palette(len(anchors.shapes) + 2)[1:]
        for level, shapes in enumerate(anchors.shapes):
            for shape in shapes:
                x, y = place(shape)
                canvas.add(*_cross(x, y, colors[level]))
        entries = [(f"{h}x{w}", colors[i]) for i, (h, w) in enumerate(anchors.sizes)]
        _legend(canvas, entries, top + height + 52, x=left - 8, step=min(60, 340 / len(entries)))
    return canvas


def _cross(x: float, y: float, color: Color) -> list[Line]:
    """A mark with a seam, to be seen on any shade."""
    strokes = [[(x - 5, y), (x + 5, y)], [(x, y - 5), (x, y + 5)]]
    return [Line(points, paint, width=w) for paint, w in (("ink", 4.0), (color, 2.4)) for points in strokes]


def _levels(anchors: Anchors, matches: Mapping[str, Matches]) -> Canvas:
    """For each feature map the share of boxes whose best anchor it has, and the share that no anchor reaches."""
    groups = [f"{h}x{w}" for h, w in anchors.sizes] + ["none"]
    series = []
    for split, found in matches.items():
        counts = np.bincount(found.levels[found.reached], minlength=len(anchors.sizes)).tolist()
        counts.append(int((~found.reached).sum()))
        series.append((split, [100 * count / max(len(found.levels), 1) for count in counts], SPLIT_COLORS[split]))
    title = f"Boxes by the feature map whose anchor reaches IoU {anchors.threshold:g}"
    return bar_chart(title, groups, series, axis="% of the boxes", form="{:.1f}")
