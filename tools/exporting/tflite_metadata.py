"""TFLite metadata: the tables of its schemas that we write, as dataclasses, and their FlatBuffers encoding.

The order of a class's fields is its schema's, because FlatBuffers numbers fields by it; what we never write is left out
at the end. The schemas are MediaPipe's metadata_schema.fbs (1.5.0), object_detector_metadata_schema.fbs (1.0.0) and
image_segmenter_metadata_schema.fbs (1.0.0): https://github.com/google-ai-edge/mediapipe, mediapipe/tasks/metadata.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol, get_type_hints

import numpy as np

METADATA, MODEL, OPTIONS = b"M001", b"TFL3", b"V001"  # the identifiers of the three kinds of buffers
AXIS_LABELS = 2  # AssociatedFileType
FEATURE, IMAGE, BOXES = 1, 2, 3  # ContentProperties
RGB, GRAYSCALE = 1, 2  # ColorSpaceType
BOUNDARIES, RATIO = 1, 0  # BoundingBoxType, CoordinateType
NORMALIZATION = 1  # ProcessUnitOptions
SOFTMAX = 2  # Activation
_ALIGNED = 16  # bytes: the schemas' force_align of what a buffer holds

Bool = Annotated[bool, np.bool_]
Byte = Annotated[int, np.int8]
UByte = Annotated[int, np.uint8]
Int = Annotated[int, np.int32]
Float = Annotated[float, np.float32]


class Packable(Protocol):
    """A table that writes itself. The classes generated from TFLite's schema are such, too."""

    def Pack(self, builder: Any) -> int: ...  # noqa: N802


@dataclass(kw_only=True)
class Table:
    """The base of the tables below; None is left out."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write what it refers to, then itself; returns its offset."""
        types = get_type_hints(type(self), include_extras=True)
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        written = [
            value if value is None or hasattr(types[name], "__metadata__") else _written(builder, value)
            for name, value in values
        ]
        builder.StartObject(len(values))
        for slot, ((name, _), value) in enumerate(zip(values, written, strict=True)):
            if value is None:
                continue
            if hasattr(types[name], "__metadata__"):
                kind = np.dtype(types[name].__metadata__[0]).name.capitalize()
                getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()


def _written(builder: Any, value: Any) -> int:
    """The offset of a text, of bytes, of an array of numbers, of a table or of a list of tables."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, bytes):
        return builder.CreateNumpyVector(np.frombuffer(value, np.uint8))
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, Table):
        return value.Pack(builder)
    offsets = [item.Pack(builder) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in offsets[::-1]:
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def packed(root: Packable, identifier: bytes) -> bytes:
    """A buffer with the table `root`.

    Bytes begin at multiples of 16, as the schemas want it: kernels read numbers from them in place. Python's builder
    by itself aligns them to 4.
    """
    import flatbuffers  # pyright: ignore[reportMissingImports]

    class Builder(flatbuffers.Builder):
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
            return super().StartVector(elemSize, numElems, _ALIGNED if elemSize == 1 else alignment)

    builder = Builder(1024)
    builder.Finish(root.Pack(builder), file_identifier=identifier)
    return bytes(builder.Output())


@dataclass(kw_only=True)
class AssociatedFile(Table):
    name: str
    description: str
    type: Byte


@dataclass(kw_only=True)
class FeatureProperties(Table):
    pass


@dataclass(kw_only=True)
class ImageProperties(Table):
    color_space: Byte


@dataclass(kw_only=True)
class BoundingBoxProperties(Table):
    index: np.ndarray | None = None  # uint32 [4]
    type: Byte
    coordinate_type: Byte


@dataclass(kw_only=True)
class Content(Table):
    content_properties_type: UByte
    content_properties: FeatureProperties | ImageProperties | BoundingBoxProperties


@dataclass(kw_only=True)
class NormalizationOptions(Table):
    mean: np.ndarray  # float32, and so is std
    std: np.ndarray


@dataclass(kw_only=True)
class ProcessUnit(Table):
    options_type: UByte
    options: NormalizationOptions


@dataclass(kw_only=True)
class Stats(Table):
    max: np.ndarray  # float32, and so is min
    min: np.ndarray


@dataclass(kw_only=True)
class TensorMetadata(Table):
    name: str
    description: str
    dimension_names: None = None
    content: Content
    process_units: Sequence[ProcessUnit] | None = None
    stats: Stats | None = None
    associated_files: Sequence[AssociatedFile] | None = None


@dataclass(kw_only=True)
class CustomMetadata(Table):
    name: str
    data: bytes


@dataclass(kw_only=True)
class SubGraphMetadata(Table):
    name: None = None
    description: None = None
    input_tensor_metadata: Sequence[TensorMetadata]
    output_tensor_metadata: Sequence[TensorMetadata]
    associated_files: None = None
    input_process_units: None = None
    output_process_units: None = None
    input_tensor_groups: None = None
    output_tensor_groups: None = None
    custom_metadata: Sequence[CustomMetadata]


@dataclass(kw_only=True)
class ModelMetadata(Table):
    name: str
    description: str
    version: str
    subgraph_metadata: Sequence[SubGraphMetadata]
    author: None = None
    license: None = None
    associated_files: None = None
    min_parser_version: str


@dataclass(kw_only=True)
class FixedAnchor(Table):
    x_center: Float
    y_center: Float
    width: Float
    height: Float


@dataclass(kw_only=True)
class FixedAnchorsSchema(Table):
    anchors: Sequence[FixedAnchor]


@dataclass(kw_only=True)
class SsdAnchorsOptions(Table):
    fixed_anchors_schema: FixedAnchorsSchema


@dataclass(kw_only=True)
class TensorsDecodingOptions(Table):
    num_classes: Int
    num_boxes: Int
    num_coords: Int
    keypoint_coord_offset: Int
    num_keypoints: Int
    num_values_per_keypoint: Int
    x_scale: Float
    y_scale: Float
    w_scale: Float
    h_scale: Float
    apply_exponential_on_box_size: Bool
    sigmoid_score: Bool


@dataclass(kw_only=True)
class ObjectDetectorOptions(Table):
    min_parser_version: str
    ssd_anchors_options: SsdAnchorsOptions
    tensors_decoding_options: TensorsDecodingOptions


@dataclass(kw_only=True)
class ImageSegmenterOptions(Table):
    activation: Byte
    min_parser_version: str
