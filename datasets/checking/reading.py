"""Reads each kind of dataset when anything in it may be wrong."""

import inspect
from collections.abc import Mapping
from typing import Any

from ..annotations.faults import Report
from ..cityscapes import Cityscapes
from ..coco import CocoDetection
from ..coco_json import CocoJson
from ..image_folder import ImageFolder
from ..labels import LabelMap
from ..mask_folder import MaskFolder
from ..voc import VocDetection
from ..yolo import YoloDetection
from .contents import Contents, contents_of

SOURCES = (CocoDetection, CocoJson, VocDetection, YoloDetection, MaskFolder, Cityscapes, ImageFolder)


def read_split(source: type, arguments: Mapping[str, Any], *, labels: LabelMap | None, report: Report) -> Contents:
    """Read a split, given the class of its source (one of `SOURCES`) and its arguments.

    A fault of one image or record is reported and reading continues. A ValueError or OSError stops it.

    Args:
        labels: the training split's classes, if known; they replace the source's own `labels`.

    Raises:
        ValueError, OSError: reading cannot continue.
    """
    takes_labels = labels is not None and "labels" in inspect.signature(source).parameters
    given = {**arguments, "labels": labels} if takes_labels else arguments
    return contents_of(source(**given, report=report))
