"""LiteRT files that MediaPipe Tasks' ObjectDetector and ImageSegmenter open as they are.

What they expect is read from their graphs: detection_postprocessing_graph.cc, tensors_to_detections_calculator.cc and
tensors_to_segmentation_calculator.cc of https://github.com/google-ai-edge/mediapipe.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...detection.boxes import CENTER_SCALE, SIZE_SCALE, xyxy_to_cxcywh
from ...detection.postprocess import Postprocess
from ...segmentation.postprocess import LabelMaps
from . import tflite_metadata as tflite

LABELS = "labels.txt"
_SEGMENTER_OPTIONS = tflite.ImageSegmenterOptions(activation=tflite.SOFTMAX, min_parser_version="1.0.0")


class DetectorOutputs(nn.Module):
    """A detector's `location` [B, A, 4], deltas (y, x, h, w) of every anchor, and `score` [B, A, classes].

    MediaPipe takes the best class of an anchor as it stands: the background must not be among them. Scores are logits
    where classes are independent (MediaPipe applies the sigmoid), probabilities otherwise.
    """

    def __init__(self, network: nn.Module, post: Postprocess) -> None:
        super().__init__()
        self.network, self.post = network, post

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs for `images` float32 [B, 3, h, w] in 0..255."""
        outputs = self.network(images)
        logits, (x, y, w, h) = outputs["class_logits"], outputs["box_deltas"].split(1, dim=-1)
        if self.post.max_log_size is not None:
            w, h = (side.clamp(max=SIZE_SCALE * self.post.max_log_size) for side in (w, h))
        score = logits.softmax(-1) if self.post.activation == "softmax" else logits
        return {"location": torch.cat((y, x, h, w), dim=-1), "score": score[..., 1:]}


class SegmenterOutputs(nn.Module):
    """A segmenter's `segmentation_masks` [B, h, w, K]: logits at the input's size.

    MediaPipe resizes masks to the photograph, but knows nothing of the network's padding, and its category mask and
    its confidence masks disagree about where a pixel's center lies.
    """

    def __init__(self, network: nn.Module, post: LabelMaps) -> None:
        super().__init__()
        self.network, self.post = network, post

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits for `images` float32 [B, 3, h, w] in 0..255."""
        outputs = self.network(images)
        height, width = images.shape[-2:]
        size = outputs["logits_size"]
        logits = F.interpolate(outputs["logits"], size, mode="bilinear", align_corners=self.post.align_corners)
        return {"segmentation_masks": logits[..., :height, :width].permute(0, 2, 3, 1)}


def mediapipe_outputs(network: nn.Module, post: Any) -> nn.Module:
    """A network (images to what post-processing reads) with the outputs that MediaPipe reads."""
    return DetectorOutputs(network, post) if isinstance(post, Postprocess) else SegmenterOutputs(network, post)


def with_metadata(content: bytes, about: Mapping[str, Any]) -> bytes:
    """A .tflite with TFLite metadata; `about` is what `describe_file` says of it."""
    from ai_edge_litert import schema_py_generated as schema  # pyright: ignore[reportMissingImports]
    from ai_edge_litert.tools import flatbuffer_utils  # pyright: ignore[reportMissingImports]

    model = flatbuffer_utils.read_model_from_bytearray(content)
    names = {output.tensorIndex: output.name.decode() for output in model.signatureDefs[0].outputs}
    order = [names[index] for index in model.subgraphs[0].outputs]
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    buffer.data = np.frombuffer(tflite.packed(model_metadata(about, order), tflite.METADATA), np.uint8)
    model.metadata = [*(model.metadata or []), entry]
    model.buffers.append(buffer)
    return tflite.packed(model, tflite.MODEL)


def labels(about: Mapping[str, Any]) -> str:
    """The label file: a line per class, in the order of the scores or masks."""
    names = {int(slot): name for slot, name in about["classes"].items()}
    if about["task"] == "detection":
        count = about["outputs"]["score"]["shape"][-1]
        return "\n".join(names.get(slot, "???") for slot in range(1, count + 1))
    return "\n".join(names.get(slot, "void") for slot in range(about["outputs"]["segmentation_masks"]["shape"][-1]))


def model_metadata(about: Mapping[str, Any], order: Sequence[str]) -> tflite.ModelMetadata:
    """The metadata of a file whose outputs have this order."""
    is_float = about["input"]["dtype"] == "float32"
    zero, std, most = (np.array([value], np.float32) for value in (0, 255 if is_float else 1, 1 if is_float else 255))
    normalized = tflite.ProcessUnit(
        options_type=tflite.NORMALIZATION, options=tflite.NormalizationOptions(mean=zero, std=std)
    )
    image = tflite.TensorMetadata(
        name="image",
        description=about["input"]["channels"],
        content=tflite.Content(
            content_properties_type=tflite.IMAGE, content_properties=tflite.ImageProperties(color_space=tflite.RGB)
        ),
        process_units=[normalized],
        stats=tflite.Stats(max=most, min=zero),
    )
    detects = about["task"] == "detection"
    custom = tflite.CustomMetadata(
        name="DETECTOR_METADATA" if detects else "SEGMENTER_METADATA",
        data=tflite.packed(_detector_options(about) if detects else _SEGMENTER_OPTIONS, tflite.OPTIONS),
    )
    graph = tflite.SubGraphMetadata(
        input_tensor_metadata=[image],
        output_tensor_metadata=[_output(name, about["outputs"][name]["meaning"]) for name in order],
        custom_metadata=[custom],
    )
    return tflite.ModelMetadata(
        name="ObjectDetector" if detects else "ImageSegmenter",
        description=f"{about['task']}, {about['precision']}, step {about['step']}",
        version=f"pocketvision {about['pocketvision']}",
        subgraph_metadata=[graph],
        min_parser_version="1.5.0",  # custom metadata
    )


def _output(name: str, meaning: str) -> tflite.TensorMetadata:
    """MediaPipe finds a detector's tensors by these names, and reads the labels from the scores or masks."""
    content = {
        # Required, although these describe boxes, and without post-processing inside there are deltas.
        "location": (
            tflite.BOXES, tflite.BoundingBoxProperties(type=tflite.BOUNDARIES, coordinate_type=tflite.RATIO)
        ),
        "score": (tflite.FEATURE, tflite.FeatureProperties()),
        "segmentation_masks": (tflite.IMAGE, tflite.ImageProperties(color_space=tflite.GRAYSCALE)),
    }[name]  # fmt: skip
    file = tflite.AssociatedFile(name=LABELS, description="a line per class", type=tflite.AXIS_LABELS)
    return tflite.TensorMetadata(
        name=name,
        description=meaning,
        content=tflite.Content(content_properties_type=content[0], content_properties=content[1]),
        associated_files=None if name == "location" else [file],
    )


def _detector_options(about: Mapping[str, Any]) -> tflite.ObjectDetectorOptions:
    """Anchors in parts of the image's sides, and what deltas are divided by."""
    height, width = about["network_size"]
    anchors = torch.tensor(about["anchors"], dtype=torch.float64) / torch.tensor([width, height, width, height])
    centers, sizes = xyxy_to_cxcywh(anchors)
    found = [
        tflite.FixedAnchor(x_center=x, y_center=y, width=w, height=h)
        for x, y, w, h in torch.cat((centers, sizes), dim=1).tolist()
    ]
    return tflite.ObjectDetectorOptions(
        min_parser_version="1.0.0",
        ssd_anchors_options=tflite.SsdAnchorsOptions(fixed_anchors_schema=tflite.FixedAnchorsSchema(anchors=found)),
        tensors_decoding_options=tflite.TensorsDecodingOptions(
            num_classes=about["outputs"]["score"]["shape"][-1],
            num_boxes=len(found),
            num_coords=4,
            keypoint_coord_offset=4,
            num_keypoints=0,
            num_values_per_keypoint=2,  # the only value that MediaPipe takes
            x_scale=CENTER_SCALE,
            y_scale=CENTER_SCALE,
            w_scale=SIZE_SCALE,
            h_scale=SIZE_SCALE,
            apply_exponential_on_box_size=True,
            sigmoid_score=about["postprocess"]["activation"] == "sigmoid",
        ),
    )
