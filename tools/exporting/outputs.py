"""What a file gives: the name, the dtype and the shape of every output."""

from typing import Any, cast

from ...detection.postprocess import num_candidates
from ..predicting.interface import Interface, example_outputs
from ..runs.loaded import LoadedRun


def output_types(run: LoadedRun, interface: Interface) -> list[tuple[str, str, list[int | str]]]:
    """Name, dtype and shape of every output; a name in a shape stands for a dynamic axis."""
    batch: int | str = "batch" if interface.batch is None else interface.batch
    kind, classes = interface.kind, run.task.labels.num_classes
    if interface.outputs == "mediapipe":
        return _mediapipe_types(run, interface)
    if interface.outputs == "raw":
        found = example_outputs(run, interface)
        shapes: dict[str, list[int | str]] = {name: [batch, *found[name].shape[1:]] for name in interface.raw_names}
        if kind == "segmentation" and interface.network_size is None:
            shapes["logits"][2:] = ["rows", "columns"]
        if "anchors" in shapes:
            shapes["anchors"] = [*found["anchors"].shape]
        return [(name, "float32", shape) for name, shape in shapes.items()]
    index = "float32" if interface.portable else "int64"
    if kind == "classification":
        return [("labels", index, [batch, classes]), ("scores", "float32", [batch, classes])]
    if kind == "segmentation":
        return [("label_map", "uint8", [batch, *(interface.input_size or ("height", "width"))])]
    rows: list[int | str] = ["detections"]
    if interface.is_padded:
        logits, post = example_outputs(run, interface)["class_logits"], cast(Any, run.task.postprocess)
        rows = [batch, min(post.max_detections, num_candidates(logits, interface.candidates, post.top_k))]
    types: list[tuple[str, str, list[int | str]]] = [
        ("boxes", "float32", [*rows, 4]), ("scores", "float32", rows), ("labels", index, rows)
    ]  # fmt: skip
    return [*types, ("counts", index, [batch])] if interface.is_padded else types


def _mediapipe_types(run: LoadedRun, interface: Interface) -> list[tuple[str, str, list[int | str]]]:
    found, size = example_outputs(run, interface), interface.network_size
    if interface.kind == "detection":
        _, anchors, slots = found["class_logits"].shape
        return [("location", "float32", [1, anchors, 4]), ("score", "float32", [1, anchors, slots - 1])]
    assert size is not None
    return [("segmentation_masks", "float32", [1, *size, found["logits"].shape[1]])]
