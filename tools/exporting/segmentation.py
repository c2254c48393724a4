"""The segmenter's last steps as ONNX nodes: from low-resolution logits to a uint8 label map."""

import math
from collections.abc import Sequence

import numpy as np

from ..predicting.interface import Interface, Padding, example_size
from .graph import Graph, Value


def add_label_map(
    graph: Graph,
    logits: str,
    *,
    shape: Sequence[int],
    align_corners: bool,
    padding: Padding,
    interface: Interface,
    channels_last: bool,
) -> str:
    """Label map uint8 [B, H, W] in the input's pixels, as `LabelMaps` computes it.

    Args:
        shape: of the logits [B, K, h, w] at the tracing size.
        channels_last: the memory order for the general resize. ONNX Runtime is several times faster with channels
            last, OpenVINO with channels first.
    """
    seen = interface.network_size
    step = None if interface.resizes else _step(shape, align_corners, padding, interface)
    height, width = seen or (0, 0)
    if seen is None or interface.resizes:  # the photograph's, int64 [1] each
        height, width = graph.size(interface.name, 1), graph.size(interface.name, 2)
    if step is not None:
        return _by_cells(graph, logits, step, align_corners, (height, width))
    network = (height, width) if seen is None else seen
    padded = _padded_size(graph, network, padding)
    order = [0, 2, 3, 1] if channels_last else [0, 1, 2, 3]
    rows = order.index(2)
    if channels_last:
        logits = graph.op("Transpose", logits, perm=order)
    logits = _resize(graph, logits, padded, align_corners=align_corners, axes=(rows, rows + 1))
    if padding.divisor > 1:
        for axis, side in enumerate(network):
            logits = graph.slice(logits, 0, side, axis=rows + axis)
    if interface.resizes:
        logits = _resize(graph, logits, (height, width), align_corners=False, axes=(rows, rows + 1))
    return _best(graph, logits, axis=order.index(1), by_topk=not channels_last)


def _step(shape: Sequence[int], align_corners: bool, padding: Padding, interface: Interface) -> int | None:
    """Pixels from one logit to the next, if that is an integer above 1 at every size that the file accepts."""
    if interface.network_size is None and not (align_corners and padding.remainder == 1):
        return None
    padded = padding.padded(example_size(interface))
    less = 1 if align_corners else 0
    steps = {
        (big - less) / (small - less) if small > less else 1.0 for big, small in zip(padded, shape[2:], strict=True)
    }
    step = steps.pop()
    return int(step) if not steps and step == int(step) > 1 else None


def _padded_size(graph: Graph, size: tuple[Value, Value], padding: Padding) -> tuple[Value, Value]:
    if isinstance(size[0], int) and isinstance(size[1], int):
        return padding.padded((size[0], size[1]))
    if padding.divisor == 1:
        return size
    height, width = (
        graph.op("Add", side, graph.op("Mod", graph.op("Sub", padding.remainder, side), padding.divisor))
        for side in size
    )
    return height, width


def _resize(graph: Graph, value: str, size: tuple[Value, Value], *, align_corners: bool, axes: tuple[int, int]) -> str:
    """Bilinear, to (h, w)."""
    sides = [np.array([side]) if isinstance(side, int) else side for side in size]
    shape = [graph.size(value, axis) for axis in range(4)]
    for axis, side in zip(axes, sides, strict=True):
        shape[axis] = side if isinstance(side, str) else graph.constant(side)
    mode = "align_corners" if align_corners else "half_pixel"
    whole = graph.op("Concat", *shape, axis=0)
    return graph.op("Resize", value, "", "", whole, mode="linear", coordinate_transformation_mode=mode)


def _best(graph: Graph, logits: str, *, axis: int, by_topk: bool = False) -> str:
    """The best class along an axis, as uint8 without that axis."""
    if by_topk:
        best = graph.ops("TopK", logits, np.array([1]), outputs=2, axis=axis)[1]
        best = graph.op("Squeeze", best, np.array([axis]))
    else:
        best = graph.op("ArgMax", logits, axis=axis, keepdims=0)
    return graph.cast(best, "uint8")


def _by_cells(graph: Graph, logits: str, step: int, align_corners: bool, size: tuple[Value, Value]) -> str:
    """Upsampling and best class in one, for integer steps.

    The pixels between four neighboring logits form a cell. Bilinear interpolation is a convex combination, so if all
    four have the same best class, the whole cell has it. Only the other cells (one in five to ten for a trained
    network) are interpolated, in one matrix product with the weights of a cell's pixels.
    """
    before = 0 if align_corners else 1
    logits = graph.op("Pad", logits, np.array([0, 0, before, before, 0, 0, 1, 1]), "", mode="edge")
    logits = graph.op("Transpose", logits, perm=[0, 2, 3, 1])
    batch, rows, columns = (graph.size(logits, axis) for axis in range(3))
    last = [graph.op("Sub", side, 1) for side in (rows, columns)]

    best = _best(graph, logits, axis=3)
    corners = [_corner(graph, best, y, x, (rows, columns), last) for y in (0, 1) for x in (0, 1)]
    same = graph.op("Equal", corners[0], corners[1])
    for corner in corners[2:]:
        same = graph.op("And", same, graph.op("Equal", corners[0], corner))
    mixed = graph.op("NonZero", graph.op("Not", graph.op("Reshape", same, np.array([-1]))))
    mixed = graph.op("Squeeze", mixed, np.array([0]))
    mixed = graph.op(
        "Concat", mixed, np.array([0]), axis=0
    )  # never empty: ONNX Runtime's MatMul divides by the number of rows

    total = graph.op("Mul", graph.op("Mul", batch, rows), columns)
    scalar = graph.op("Squeeze", total)
    place = graph.op("Reshape", graph.op("Range", 0, scalar, 1), graph.op("Concat", batch, rows, columns, axis=0))
    place = graph.op("Reshape", _corner(graph, place, 0, 0, (rows, columns), last), np.array([-1]))
    place = graph.op("Gather", place, mixed, axis=0)
    flat = graph.op("Reshape", logits, graph.op("Concat", total, np.array([-1]), axis=0))
    offsets: list[Value] = [0, 1, columns, graph.op("Add", columns, 1)]
    around = [graph.op("Gather", flat, graph.op("Add", place, offset), axis=0) for offset in offsets]
    around = [graph.op("Unsqueeze", item, np.array([2])) for item in around]
    pixels = graph.op("MatMul", graph.op("Concat", *around, axis=2), cell_weights(step, align_corners))

    cells = graph.op("Expand", graph.op("Reshape", corners[0], np.array([-1, 1])), np.array([1, step * step]))
    index = graph.op("Unsqueeze", mixed, np.array([1]))
    cells = graph.op("ScatterND", cells, index, _best(graph, pixels, axis=1))
    shape = graph.op("Concat", batch, *last, np.array([step, step]), axis=0)
    whole = graph.op("Transpose", graph.op("Reshape", cells, shape), perm=[0, 1, 3, 2, 4])
    sides = [graph.op("Mul", side, step) for side in last]
    whole = graph.op("Reshape", whole, graph.op("Concat", batch, *sides, axis=0))
    return _cut(graph, whole, 0 if align_corners else first_pixel(step), size)


def _corner(graph: Graph, value: str, y: int, x: int, size: tuple[str, str], last: Sequence[str]) -> str:
    """One corner [B, rows - 1, columns - 1] of every cell."""
    rows, columns = (size[i] if offset else last[i] for i, offset in enumerate((y, x)))
    return graph.slice(graph.slice(value, y, rows, axis=1), x, columns, axis=2)


def _cut(graph: Graph, whole: str, start: int, size: tuple[Value, Value]) -> str:
    for axis, side in enumerate(size, start=1):
        end = np.array([start + side]) if isinstance(side, int) else graph.op("Add", side, start)
        whole = graph.slice(whole, start, end, axis=axis)
    return whole


def first_pixel(step: int) -> int:
    """Pixels of the first cell that lie outside the image: its corner is half a step plus half a pixel outside."""
    return math.floor(step / 2 + 0.5)


def cell_weights(step: int, align_corners: bool) -> np.ndarray:
    """Weights of the corners (upper left and right, lower left and right) for each pixel of a cell: [4, step**2]."""
    phase = np.arange(step) / step
    if not align_corners:
        phase = (np.arange(step) - first_pixel(step) + 0.5) / step + 0.5
    side = np.stack((1 - phase, phase))
    return np.einsum("ay,bx->abyx", side, side).reshape(4, -1).astype(np.float32)
