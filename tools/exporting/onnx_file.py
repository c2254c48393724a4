"""One ONNX graph from input to outputs: pre-processing, the network as exported by torch, post-processing."""

import copy
from typing import Any, cast

import numpy as np
import torch

from ...segmentation.postprocess import IGNORED
from ..predicting.interface import RAW_NAMES, Interface, Padding, RawNetwork, example_outputs, example_size
from ..runs.loaded import LoadedRun
from ..system.console import quiet
from .detection import add_detections
from .graph import IR_VERSION, OPSET, Graph, onnx_type
from .outputs import output_types
from .segmentation import add_label_map
from .trained_int8 import exportable

IMAGES = "network/images"  # float32 [B, 3, h, w] in 0..255


def network_proto(run: LoadedRun, interface: Interface) -> Any:
    """The network alone, with batch norm folded into its convolutions."""
    names = [f"network/{name}" for name in RAW_NAMES[interface.kind]]
    size, axes = example_size(interface), {}
    if interface.batch is None:
        axes[0] = torch.export.Dim("batch")
    if interface.network_size is None:
        axes |= {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    images = torch.zeros((interface.batch or 2, 3, *size))
    network = RawNetwork(run.task.model, interface.kind)
    model = exportable(network) if run.quantized else copy.deepcopy(network).cpu().eval()
    model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    with quiet():
        program = torch.onnx.export(
            model, (images,), dynamo=True, opset_version=OPSET, input_names=[IMAGES], output_names=names,
            dynamic_shapes=(axes,) if axes else None, verbose=False, external_data=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # where in this machine's files each came from, a tenth of the network's bytes
    return proto


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
        [helper.make_tensor_value_info(interface.name, onnx_type(interface.dtype), interface.shape)],
        [
            helper.make_tensor_value_info(name, onnx_type(dtype), shape)
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


def add_images(interface: Interface, *, channels_last: bool) -> Graph:
    """The input as float32 [B, 3, h, w] in 0..255, not rounded after a resize."""
    graph = Graph("pre")
    name, is_float = interface.name, interface.dtype == "float32"
    value = graph.op("Mul", name, 255.0) if is_float else graph.cast(name, "float32")
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
    classes, post = run.task.labels.num_classes, cast(Any, run.task.postprocess)
    if interface.kind == "detection":
        anchors = example_outputs(run, interface)["anchors"].cpu().numpy()
        if interface.outputs == "raw":
            return raw | {"anchors": graph.constant(anchors)}
        return add_detections(graph, raw, anchors=anchors, num_classes=classes, post=post, interface=interface)
    if interface.outputs == "raw":
        return raw
    if interface.kind == "segmentation":
        shape = example_outputs(run, interface)["logits"].shape
        found = add_label_map(
            graph, raw["logits"], shape=shape, align_corners=post.align_corners, padding=Padding.of(run.task.model),
            interface=interface, channels_last=channels_last,
        )  # fmt: skip
        if post.void:
            void, ignored = np.array(shape[1] - 1, np.uint8), np.array(IGNORED, np.uint8)
            found = graph.op("Where", graph.op("Equal", found, void), ignored, found)
        return {"label_map": found}
    scores = graph.op("Softmax", raw["logits"], axis=1)
    scores, labels = graph.ops("TopK", scores, np.array([classes]), outputs=2, axis=1)
    return {"labels": labels, "scores": scores}
