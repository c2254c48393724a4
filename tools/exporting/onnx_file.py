"""One ONNX graph from input to outputs: pre-processing, the network as exported by torch, post-processing."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch

from ...segmentation.postprocess import IGNORED
from ..predicting.interface import RAW_NAMES, Interface, Padding, RawNetwork, anchors_of, example_size
from ..runs.loaded import LoadedRun
from .detection import add_detections
from .graph import IR_VERSION, OPSET, Graph
from .segmentation import add_label_map

IMAGES = "network/images"  # float32 [B, 3, h, w] in 0..255


def network_proto(run: LoadedRun, interface: Interface) -> Any:
    """The network alone, with batch norm folded into its convolutions.

    Raises:
        ValueError: its graph does not match the interface.
    """
    names = [f"network/{name}" for name in RAW_NAMES[interface.kind]]
    size, axes = example_size(interface), {}
    if interface.batch is None:
        axes[0] = torch.export.Dim("batch")
    if interface.network_size is None:
        axes |= {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    images = torch.zeros((interface.batch or 2, 3, *size))
    model = copy.deepcopy(RawNetwork(run.task.model, interface.kind)).cpu().eval()
    model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    with quiet():
        program = torch.onnx.export(
            model, (images,), dynamo=True, opset_version=OPSET, input_names=[IMAGES], output_names=names,
            dynamic_shapes=(axes,) if axes else None, verbose=False, external_data=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what the exporter prints and logs."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def build_onnx(
    run: LoadedRun, network: Any, interface: Interface, *, channels_last: bool = True, metadata: dict[str, str]
) -> Any:
    """Build and check the whole graph around `network`.

    Args:
        channels_last: how images and logits are resized; OpenVINO is faster with channels first.
    """
    from onnx import checker, helper

    before = add_images(interface, channels_last=channels_last)
    after = Graph("post")
    raw = {name: f"network/{name}" for name in RAW_NAMES[interface.kind]}
    for name, value in _outputs(after, run, raw, interface, channels_last).items():
        after.rename(value, name)
    graph = helper.make_graph(
        [node for nodes in (before.nodes, network.graph.node, after.nodes) for node in nodes],
        f"pocketvision_{interface.kind}",
        [helper.make_tensor_value_info(interface.name, _onnx_type("uint8"), interface.shape)],
        [
            helper.make_tensor_value_info(name, _onnx_type(dtype), shape)
            for name, dtype, shape in output_types(run, interface)
        ],
        [item for items in (before.initializers, network.graph.initializer, after.initializers) for item in items],
    )
    model = helper.make_model(
        graph, opset_imports=list(network.opset_import), ir_version=IR_VERSION, producer_name="pocketvision",
        functions=list(network.functions),
    )  # fmt: skip
    helper.set_model_props(model, metadata)
    checker.check_model(model, full_check=True)
    return model


def _onnx_type(dtype: str) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def add_images(interface: Interface, *, channels_last: bool) -> Graph:
    """The input as float32 [B, 3, h, w] in 0..255, not rounded after a resize."""
    from onnx import TensorProto

    graph = Graph("pre")
    value = graph.op("Cast", interface.name, to=TensorProto.FLOAT)
    if interface.input == "photo" and not channels_last:
        value = graph.op("Transpose", value, perm=[0, 3, 1, 2])
    if interface.resizes:
        assert interface.network_size is not None
        height, width = interface.network_size
        size = np.array([1, height, width, 3] if channels_last else [1, 3, height, width])
        value = graph.op("Resize", value, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
    if interface.input == "photo" and channels_last:
        value = graph.op("Transpose", value, perm=[0, 3, 1, 2])
    graph.rename(value, IMAGES)
    return graph


def _outputs(
    graph: Graph, run: LoadedRun, raw: dict[str, str], interface: Interface, channels_last: bool
) -> dict[str, str]:
    task, model, post = run.task, cast(Any, run.task.model), cast(Any, run.task.postprocess)
    if interface.kind == "detection":
        anchors = anchors_of(run, interface)
        if interface.outputs == "raw":
            return raw | {"anchors": graph.constant(anchors)}
        num_classes = model.num_slots - 1
        return add_detections(graph, raw, anchors=anchors, num_classes=num_classes, post=post, interface=interface)
    if interface.outputs == "raw":
        return raw
    if interface.kind == "segmentation":
        shape = raw_shape(run, interface)
        found = add_label_map(
            graph, raw["logits"], shape=shape, align_corners=post.align_corners, padding=Padding.of(model),
            interface=interface, channels_last=channels_last,
        )  # fmt: skip
        if post.void:
            void, ignored = np.array(shape[1] - 1, np.uint8), np.array(IGNORED, np.uint8)
            found = graph.op("Where", graph.op("Equal", found, void), ignored, found)
        return {"label_map": found}
    scores = graph.op("Softmax", raw["logits"], axis=1)
    scores, labels = graph.ops("TopK", scores, np.array([task.labels.num_classes]), outputs=2, axis=1)
    return {"labels": labels, "scores": scores}


@torch.inference_mode()
def raw_shape(run: LoadedRun, interface: Interface) -> tuple[int, ...]:
    """The shape of the logits at the tracing size."""
    device = next(run.task.model.parameters()).device
    images = torch.zeros((1, 3, *example_size(interface)), device=device)
    return tuple(run.task.model(images)["logits"].shape)


def output_types(run: LoadedRun, interface: Interface) -> list[tuple[str, str, list[int | str]]]:
    """Name, dtype and shape of every output; a name in a shape stands for a dynamic axis."""
    batch: int | str = "batch" if interface.batch is None else interface.batch
    classes, model, post = run.task.labels.num_classes, cast(Any, run.task.model), cast(Any, run.task.postprocess)
    if interface.kind == "classification":
        shape: list[int | str] = [batch, classes]
        raw = interface.outputs == "raw"
        return [("logits", "float32", shape)] if raw else [("labels", "int64", shape), ("scores", "float32", shape)]
    if interface.kind == "segmentation":
        if interface.outputs == "final":
            size = list(interface.input_size or ("height", "width"))
            return [("label_map", "uint8", [batch, *size])]
        shape = [batch, *raw_shape(run, interface)[1:]]
        return [("logits", "float32", shape if interface.network_size else [*shape[:2], "rows", "columns"])]
    anchors = len(anchors_of(run, interface))
    if interface.outputs == "raw":
        return [
            ("class_logits", "float32", [batch, anchors, model.num_slots]),
            ("box_deltas", "float32", [batch, anchors, 4]),
            ("anchors", "float32", [anchors, 4]),
        ]
    rows: list[int | str] = ["detections"]
    if interface.input == "network":
        most = min(post.max_detections, interface.candidates, anchors * classes)
        rows = [batch, most]
    types: list[tuple[str, str, list[int | str]]] = [
        ("boxes", "float32", [*rows, 4]), ("scores", "float32", rows), ("labels", "int64", rows)
    ]  # fmt: skip
    return [*types, ("counts", "int64", [batch])] if interface.input == "network" else types
