"""A split as its reader found it, including faults: the input of a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotations.boxes import BoxSource, BoxTable
from ..image_folder import ImageFolder
from ..images.label_colors import ColorTable
from ..labels import LabelMap
from ..mask_folder import MaskPairs


@dataclass(frozen=True)
class Picture:
    """An image to examine, and what the annotations say about it."""

    name: str  # relative to the images' folder
    path: str
    source: str = ""  # the annotation file that states its size
    size: tuple[int, int] | None = None  # h, w according to `source`
    mask: str = ""  # its mask
    instances: str = ""  # its instance-id picture


@dataclass(frozen=True)
class Contents:
    """A split: its classes, its images, and one of boxes, masks and a class for each image."""

    labels: LabelMap
    folder: Path  # of the images
    pictures: Sequence[Picture]
    boxes: BoxTable | None = None  # its images are `pictures`, in their order
    values: np.ndarray | None = None  # uint8 [256], meaning of the masks' values (mask_folder.slot_table)
    colors: ColorTable | None = None  # of masks in color
    instance_values: np.ndarray | None = None  # uint8 [256], meaning of the instance ids' classes
    slots: np.ndarray | None = None  # int64 [N], the class of each image
    spare: Sequence[str] = ()  # masks without an image

    @property
    def kind(self) -> str:
        if self.boxes is not None:
            return "detection"
        return "segmentation" if self.slots is None else "classification"


def contents_of(source: BoxSource | MaskPairs | ImageFolder) -> Contents:
    """What a source created with a `report` has read."""
    if isinstance(source, BoxSource):
        return _of_boxes(source)
    if isinstance(source, MaskPairs):
        return _of_masks(source)
    pictures = [Picture(name, str(source.folder / name)) for name in source.image_ids]
    return Contents(source.labels, source.folder, pictures, slots=source.slots)


def _of_boxes(source: BoxSource) -> Contents:
    table, folder = source.table, source.images
    assert table is not None
    sizes = zip(table.heights.tolist(), table.widths.tolist(), strict=True)
    pictures = [  # a reader may not know the size
        Picture(name, str(folder / name), table.source, size if min(size) > 0 else None)
        for name, size in zip(table.file_names.tolist(), sizes, strict=True)
    ]
    return Contents(table.labels, folder, pictures, boxes=table)


def _of_masks(pairs: MaskPairs) -> Contents:
    folder = pairs.folders[0]
    pictures = [
        Picture(Path(image).relative_to(folder).as_posix(), image, mask=mask, instances=pairs.instances_path(index))
        for index, (image, mask) in enumerate(zip(pairs.image_paths, pairs.mask_paths, strict=True))
    ]
    return Contents(
        pairs.labels, folder, pictures, values=pairs.table, colors=pairs.colors,
        instance_values=pairs.instance_values, spare=[str(path) for path in pairs.spare],
    )  # fmt: skip
