"""The detector's last steps as ONNX nodes: scores, the best candidates, one NonMaxSuppression, boxes in pixels."""

import numpy as np

from ...detection.boxes import CENTER_SCALE, SIZE_SCALE
from ...detection.postprocess import Postprocess
from ..predicting.interface import Interface
from .graph import Graph


def add_detections(
    graph: Graph, raw: dict[str, str], *, anchors: np.ndarray, num_classes: int, post: Postprocess, interface: Interface
) -> dict[str, str]:
    """Add the nodes for `Postprocess`, on the `candidates` best (anchor, class) pairs.

    They are sorted, so the survivors are in order: boxes [N, 4], scores [N], labels [N]; for batches, padded with
    zeros to [B, M, 4], [B, M], [B, M] and counts [B].
    """
    of_class = len(anchors) if post.top_k is None else min(len(anchors), post.top_k)
    count = min(interface.candidates, of_class * num_classes)
    scores, anchor, labels = _candidates(graph, raw["class_logits"], num_classes, count, of_class, post)
    limits, scale = _pixels(graph, interface)
    boxes = _decode(graph, raw["box_deltas"], anchor, anchors, post.max_log_size)
    if scale is not None:
        boxes = graph.op("Mul", boxes, scale)
    if post.clip == "before":
        boxes = _clip(graph, boxes, limits)
    keep = _suppress(graph, boxes, scores, labels, num_classes, count, post)
    if post.clip == "after":
        boxes = _clip(graph, boxes, limits)
        size = graph.op("Sub", graph.slice(boxes, 2, 4, axis=2), graph.slice(boxes, 0, 2, axis=2))
        smallest = graph.op("ReduceMin", size, np.array([2]), keepdims=0)
        keep = graph.op("And", keep, graph.op("Greater", smallest, 0.0))
    # The first `max_detections` of them.
    position = graph.op("CumSum", graph.cast(keep, "float32"), np.array(1))
    keep = graph.op("And", keep, graph.op("LessOrEqual", position, float(post.max_detections)))
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    if interface.input == "photo":
        index = graph.op("Gather", graph.op("NonZero", keep), np.array(1), axis=0)
        return {
            name: graph.op("Gather", graph.op("Squeeze", value, np.array([0])), index, axis=0)
            for name, value in found.items()
        }
    return _padded(graph, found, keep, min(post.max_detections, count), count)


def _candidates(
    graph: Graph, logits: str, num_classes: int, count: int, of_class: int, post: Postprocess
) -> tuple[str, str, str]:
    """Scores, anchors and slots of the best pairs, each [B, count], best first; see `best_candidates`."""
    if post.activation == "softmax":
        logits = graph.op("Softmax", logits, axis=-1)
    values = graph.slice(logits, 1, num_classes + 1, axis=2)
    if count == of_class * num_classes and post.top_k is not None:
        by_class = graph.op("Transpose", values, perm=[0, 2, 1])
        values, rows = graph.ops("TopK", by_class, np.array([of_class]), outputs=2, axis=2)
        best, index = graph.ops("TopK", graph.op("Flatten", values, axis=1), np.array([count]), outputs=2, axis=1)
        anchor = graph.op("GatherElements", graph.op("Flatten", rows, axis=1), index, axis=1)
        slot = graph.op("Div", index, of_class)
    else:
        best, index = graph.ops("TopK", graph.op("Flatten", values, axis=1), np.array([count]), outputs=2, axis=1)
        anchor = graph.op("Div", index, num_classes)
        slot = graph.op("Sub", index, graph.op("Mul", anchor, num_classes))
    if post.activation == "sigmoid":  # only now: it does not change the order
        best = graph.op("Sigmoid", best)
    return best, anchor, graph.op("Add", slot, 1)


def _decode(graph: Graph, deltas: str, anchor: str, anchors: np.ndarray, max_log_size: float | None) -> str:
    """Boxes [B, count, 4] of the candidates' anchors."""
    low, high = anchors[:, :2].astype(np.float64), anchors[:, 2:].astype(np.float64)
    size = high - low
    rows = graph.op("Unsqueeze", anchor, np.array([2]))
    deltas = graph.op("GatherND", deltas, rows, batch_dims=1)
    anchor_size = graph.op("Gather", size.astype(np.float32), anchor, axis=0)
    shift = graph.op("Mul", graph.slice(deltas, 0, 2, axis=2), 1 / CENTER_SCALE)
    anchor_center = graph.op("Gather", ((low + high) / 2).astype(np.float32), anchor, axis=0)
    center = graph.op("Add", graph.op("Mul", shift, anchor_size), anchor_center)
    growth = graph.op("Mul", graph.slice(deltas, 2, 4, axis=2), 1 / SIZE_SCALE)
    if max_log_size is not None:
        growth = graph.op("Min", growth, float(max_log_size))
    half = graph.op("Mul", graph.op("Mul", graph.op("Exp", growth), anchor_size), 0.5)
    return graph.op("Concat", graph.op("Sub", center, half), graph.op("Add", center, half), axis=2)


def _pixels(graph: Graph, interface: Interface) -> tuple[str, str | None]:
    """(w, h, w, h) of the photograph, and its scale relative to the network's input."""
    height, width = interface.network_size or (0, 0)
    seen = np.array([width, height, width, height], np.float32)
    if not interface.resizes:
        return graph.constant(seen), None
    size = graph.op("Shape", interface.name, start=1, end=3)
    limits = graph.cast(graph.op("Gather", size, np.array([1, 0, 1, 0]), axis=0), "float32")
    return limits, graph.op("Div", limits, seen)


def _clip(graph: Graph, boxes: str, limits: str) -> str:
    return graph.op("Min", graph.op("Max", boxes, 0.0), limits)


def _suppress(
    graph: Graph, boxes: str, scores: str, labels: str, num_classes: int, count: int, post: Postprocess
) -> str:
    """Which candidates survive, bool [B, count]."""
    batch = graph.size(scores, 0)
    zeros = graph.op("ConstantOfShape", graph.op("Concat", batch, np.array([num_classes, count]), axis=0))
    rows = graph.op("Unsqueeze", graph.op("Sub", labels, 1), np.array([1]))
    table = graph.op("ScatterElements", zeros, rows, graph.op("Unsqueeze", scores, np.array([1])), axis=1)
    if post.top_k is not None and post.top_k < count:
        present = graph.cast(graph.op("Greater", table, 0.0), "float32")
        rank = graph.op("CumSum", present, np.array(2))
        table = graph.op("Where", graph.op("LessOrEqual", rank, float(post.top_k)), table, 0.0)
    most = count if post.max_per_class is None else post.max_per_class
    picked = graph.op("NonMaxSuppression", boxes, table, most, float(post.max_iou), float(post.min_score))
    place = graph.op("Gather", picked, np.array([0, 2]), axis=1)  # image and candidate
    shape = graph.op("Concat", batch, np.array([count]), axis=0)
    none = graph.op("ConstantOfShape", shape)
    one = graph.op("Expand", np.ones(1, np.float32), graph.size(place, 0))
    return graph.op("Greater", graph.op("ScatterND", none, place, one), 0.0)


def _padded(graph: Graph, found: dict[str, str], keep: str, length: int, count: int) -> dict[str, str]:
    """The survivors first, padded with zeros."""
    place = np.arange(count, 0, -1, dtype=np.float32)[None]
    order, index = graph.ops("TopK", graph.op("Where", keep, place, 0.0), np.array([length]), outputs=2, axis=1)
    filled = graph.op("Greater", order, 0.0)
    rows = graph.op("Unsqueeze", index, np.array([2]))
    padded = {}
    for name, value in found.items():
        taken = graph.op("GatherND", value, rows, batch_dims=1)
        mask = graph.op("Unsqueeze", filled, np.array([2])) if name == "boxes" else filled
        padded[name] = graph.op("Where", mask, taken, 0 if name == "labels" else 0.0)
    padded["counts"] = graph.op("ReduceSum", graph.cast(filled, "int64"), np.array([1]), keepdims=0)
    return padded
