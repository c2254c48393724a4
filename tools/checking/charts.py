"""Charts of a dataset's statistics: classes, sizes, and anchors against boxes."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from ...datasets.checking.statistics import Statistics, class_names
from ..drawing.annotate import palette
from ..drawing.charts import WIDTH, Bar, Color, bar_chart, paint, row_chart, squares
from ..drawing.figure import INK, Chart, style
from .anchors import Anchors, Matches

SPLIT_COLORS: dict[str, Color] = {"train": (0, 114, 178), "val": (230, 159, 0)}
_MAX_BARS = 40  # classes; of more, only the most and the least frequent
_LOW = 1.0  # pixels at which the size axes begin
_CELLS, _SIDE = 48, 330  # per axis of the heat map, and its length in units


def charts_of(
    splits: Mapping[str, Statistics], anchors: Anchors | None, matches: Mapping[str, Matches]
) -> dict[str, Chart]:
    """The charts for a dataset's task, by file name."""
    first = next(iter(splits.values()))
    names = class_names(splits)
    if first.kind == "detection":
        charts = {
            "classes": _classes("Boxes per class", names, _examples(splits)),
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
            "classes": _classes("Pixels per class, % of labeled pixels", names, shares, form="{:.2f}"),
            "images": _classes("Images containing a class, %", names, images, form="{:.1f}"),
        }
    return {"classes": _classes("Images per class", names, _examples(splits))}


def _examples(splits: Mapping[str, Statistics]) -> dict[str, dict[int, float]]:
    return {split: {slot: float(n) for slot, n in s.counts.examples.items()} for split, s in splits.items()}


def _share(counts: Mapping[int, int], whole: int) -> dict[int, float]:
    return {slot: 100 * count / max(whole, 1) for slot, count in counts.items()}


def _classes(
    title: str, names: Mapping[int, str], values: Mapping[str, Mapping[int, float]], *, form: str = "{:,.0f}"
) -> Chart:
    """One bar per class and split, the most frequent classes of the first split first."""
    first = next(iter(values.values()), {})
    rows = []
    for slot in sorted(names, key=lambda slot: (-first.get(slot, 0), names[slot])):
        bars = []
        for split, of_class in values.items():
            words = form.format(of_class.get(slot, 0))
            bars.append(Bar([(of_class.get(slot, 0), SPLIT_COLORS[split])], words, tip=f"{names[slot]}: {words}"))
        rows.append((names[slot], bars))
    return row_chart(title, rows, legend=[(split, SPLIT_COLORS[split]) for split in values], limit=_MAX_BARS)


def _boxes_an_image(splits: Mapping[str, Statistics]) -> Chart:
    """The share of images by number of boxes."""
    most = max((int(s.boxes_an_image.max(initial=0)) for s in splits.values()), default=0)
    edges = [0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128]
    edges = [*[edge for edge in edges if edge <= most], most + 1]
    groups = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in pairwise(edges)]
    series = []
    for split, of_split in splits.items():
        counts, _ = np.histogram(of_split.boxes_an_image, np.array(edges) - 0.5)
        shares = 100 * counts / max(len(of_split.boxes_an_image), 1)
        series.append((split, shares.tolist(), SPLIT_COLORS[split]))
    return bar_chart("Boxes per image", groups, series, axis="% of images", form=".1f")


@style()
def _sizes(splits: Mapping[str, Statistics], anchors: Anchors | None) -> Chart:
    """A heat map of box widths and heights in the network's input, on log axes, with the anchors' shapes on it."""
    boxes = np.concatenate([s.boxes for s in splits.values()])
    limit = max([*(anchors.input_size if anchors else ()), float(boxes.max(initial=2 * _LOW))])
    sides = np.log2(np.clip(boxes[:, 2:] - boxes[:, :2], _LOW, limit))
    chart = Chart("Box widths and heights, in input pixels", WIDTH, _SIDE + 92, summary="log scales")
    plot = chart.axes(52, 12, _SIDE, _SIDE)
    whole = (math.log2(_LOW), math.log2(limit))
    counts, _, _ = np.histogram2d(sides[:, 1], sides[:, 0], bins=_CELLS, range=(whole, whole))
    shades = np.ceil(8 * np.log1p(counts) / max(math.log1p(counts.max()), 1e-9))
    opacity = np.where(shades, 255 * (0.1 + 0.1 * shades), 0)
    cells = np.dstack([np.broadcast_to(SPLIT_COLORS["train"], (*shades.shape, 3)), opacity]).round().astype(np.uint8)
    plot.imshow(cells, origin="lower", extent=(*whole, *whole), interpolation="none", clip_on=False)
    plot.grid(visible=True, axis="both", linewidth=0.5)
    powers = range(math.ceil(whole[0]), math.floor(whole[1]) + 1)
    for axis, name in ((plot.xaxis, "width"), (plot.yaxis, "height")):
        axis.set_ticks(powers, [f"{2**power}" for power in powers])
        axis.set_label_text(name)
    if anchors is not None:
        colors = palette(len(anchors.shapes) + 2)[1:]
        for color, (height, width), shapes in zip(colors, anchors.sizes, anchors.shapes, strict=False):
            xs, ys = np.log2(np.clip(np.reshape(shapes, (-1, 2)), _LOW, limit)).T
            for stroke, thick in ((INK, 4.0), (paint(color), 2.4)):  # outlined, to be visible on any shade
                (marks,) = plot.plot(xs, ys, "+", color=stroke, markersize=10, markeredgewidth=thick, clip_on=False)
            chart.mark(marks, f"anchors of {height}x{width}")
        entries = [(f"{h}x{w}", color) for (h, w), color in zip(anchors.sizes, colors, strict=False)]
        chart.legend(*squares(entries), left=52, top=_SIDE + 54, columns=3)
    return chart


def _levels(anchors: Anchors, matches: Mapping[str, Matches]) -> Chart:
    """The share of boxes by the feature map of their best anchor, and the share that match no anchor."""
    groups = [f"{h}x{w}" for h, w in anchors.sizes] + ["none"]
    series = []
    for split, found in matches.items():
        counts = np.bincount(found.levels[found.reached], minlength=len(anchors.sizes)).tolist()
        counts.append(int((~found.reached).sum()))
        series.append((split, [100 * count / max(len(found.levels), 1) for count in counts], SPLIT_COLORS[split]))
    title = f"Boxes per feature map with a matching anchor (IoU {anchors.threshold:g})"
    return bar_chart(title, groups, series, axis="% of boxes", form=".1f")
