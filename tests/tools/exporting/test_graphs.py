"""Post-processing inside exported files, as tensors and as ONNX nodes, beside its own in PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.exported import ExportedDetector
from pocketvision.detection.postprocess import Postprocess
from pocketvision.tools.exporting.detection import add_detections
from pocketvision.tools.exporting.graph import IR_VERSION, OPSET, Graph
from pocketvision.tools.exporting.segmentation import cell_weights, first_pixel
from pocketvision.tools.predicting.interface import Interface
from torch import nn

pytest.importorskip("onnx", reason="needs pip install 'pocketvision[onnx,openvino]'")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("step", [2, 3, 4, 8])
@pytest.mark.parametrize("align_corners", [True, False])
def test_the_weights_of_a_cell_are_those_of_bilinear_interpolation(step: int, align_corners: bool) -> None:
    low = torch.rand(1, 1, 3, 4)
    size = [step * (side - 1) + 1 if align_corners else step * side for side in (3, 4)]
    expected = nn.functional.interpolate(low, size, mode="bilinear", align_corners=align_corners)[0, 0].numpy()
    before = 0 if align_corners else 1
    padded = np.pad(low[0, 0].numpy(), ((before, 1), (before, 1)), mode="edge")
    corners = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]], axis=-1)
    cells = (corners @ cell_weights(step, align_corners)).reshape(*corners.shape[:2], step, step)
    whole = cells.transpose(0, 2, 1, 3).reshape(cells.shape[0] * step, -1)
    start = 0 if align_corners else first_pixel(step)
    np.testing.assert_allclose(whole[start : start + size[0], start : start + size[1]], expected, atol=1e-6)


POSTS = [
    Postprocess.reference(),
    Postprocess.torchvision(),
    Postprocess(min_score=0.99),
    Postprocess(top_k=10, max_per_class=None),  # ten of each class, though one class has the best thirty
]


def in_tensors(post: Postprocess, outputs: dict[str, torch.Tensor], interface: Interface) -> dict[str, Any]:
    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return outputs

    padded = interface.input == "network"
    detector = ExportedDetector(Network(), post, candidates=interface.candidates, padded=padded)
    found = detector(torch.zeros(1, 3, 64, 64), torch.tensor([64.0, 64.0, 64.0, 64.0]))
    return {name: value.numpy() for name, value in found.items()}


def as_onnx_nodes(post: Postprocess, outputs: dict[str, torch.Tensor], interface: Interface) -> dict[str, Any]:
    import onnxruntime
    from onnx import TensorProto, helper

    FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64  # noqa: N806
    graph, raw = Graph("post"), {name: name for name in ("class_logits", "box_deltas")}
    anchors = outputs["anchors"].numpy()
    found = add_detections(graph, raw, anchors=anchors, num_classes=3, post=post, interface=interface)
    proto = helper.make_graph(
        graph.nodes, "post",
        [helper.make_tensor_value_info(n, FLOAT, ["batch", 50, 4]) for n in raw],
        [
            helper.make_tensor_value_info(v, INT64 if n in ("labels", "counts") else FLOAT, None)
            for n, v in found.items()
        ],
        graph.initializers,
    )  # fmt: skip
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(found, session.run(None, {name: outputs[name].numpy() for name in raw}), strict=True))


@pytest.mark.parametrize("way", [in_tensors, as_onnx_nodes])
@pytest.mark.parametrize("input", ["photo", "network"])
@pytest.mark.parametrize("post", POSTS)
def test_post_processing(post: Postprocess, input: str, way: Callable) -> None:
    """Also none at all: nothing is above 0.99."""
    batch, generator = (1 if input == "photo" else 3), torch.Generator().manual_seed(2)
    corner = torch.rand(50, 2, generator=generator) * 50
    outputs = {
        "class_logits": torch.randn(batch, 50, 4, generator=generator),
        "box_deltas": torch.randn(batch, 50, 4, generator=generator),
        "anchors": torch.cat((corner, corner + 20), dim=1),
    }
    outputs["class_logits"][..., 2] += 4 * (post.top_k == 10)
    expected = post(outputs, [{"original_size": (64, 64), "input_size": (64, 64)}] * batch)
    assert (post.min_score == 0.99) == (len(expected[0]) == 0)
    interface = Interface(
        kind="detection", input=input, outputs="final", resize="none", input_size=(64, 64), network_size=(64, 64),
        batch=None, candidates=3 * min(50, post.top_k or 50),  # no more than `post` needs, of three classes
    )  # fmt: skip
    values = way(post, outputs, interface)
    if input == "photo":
        values = {name: value[None] for name, value in values.items()}
    else:
        assert values["counts"].tolist() == [len(item) for item in expected]
    for i, item in enumerate(expected):
        np.testing.assert_allclose(values["scores"][i, : len(item)], item.scores, atol=1e-6)
        np.testing.assert_allclose(values["boxes"][i, : len(item)], item.boxes, atol=1e-4)
        np.testing.assert_array_equal(values["labels"][i, : len(item)], item.labels)
        assert not values["scores"][i, len(item) :].any()
