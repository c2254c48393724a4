"""Writes generated scenes in the official layouts of COCO and Cityscapes, as input for the real loaders."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from ..annotations.sample import Array
from ..labels import CITYSCAPES_TABLE
from ..shapes import Scene, Shapes

Advance = Callable[[int], object]  # called with the number of scenes written since the last call

# The Cityscapes class of each shape: evaluated classes, of different categories if possible.
CITYSCAPES_ROLES = {
    "background": "road",
    "circle": "car",
    "square": "building",
    "triangle": "traffic sign",
    "star": "vegetation",
    "cross": "person",
    "ring": "bicycle",
    "hexagon": "sky",
}


LABEL_IDS = {name: label_id for name, label_id, *_ in CITYSCAPES_TABLE}


def write_coco(root: str | Path, splits: Mapping[str, Shapes], *, advance: Advance = lambda _: None) -> None:
    """COCO's layout: `annotations/instances_{split}2017.json` and `{split}2017/000000000001.jpg`.

    Image and annotation ids are unique over the splits. Masks are RLE, which is exact, and `area` counts their pixels.
    """
    root = Path(root)
    _make_folders(root, ["annotations", *(f"{split}2017" for split in splits)])
    image_id, annotation_id = 0, 0
    for split, source in splits.items():
        images, annotations = [], []
        for index in range(len(source)):
            image_id += 1
            scene, name = source.scene(index), f"{image_id:012d}.jpg"
            _write_image(root / f"{split}2017" / name, scene.image)
            images.append({"id": image_id, "file_name": name, "height": source.size[0], "width": source.size[1]})
            for annotation in _coco_annotations(scene):
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": image_id, **annotation})
            advance(1)
        content = {
            "info": {"description": f"Generated shapes, {split}", "year": 2017},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": "shape"}
                for number, name in enumerate(source.spec.classes, start=1)
            ],
        }
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content), encoding="utf-8")


def write_cityscapes(root: str | Path, splits: Mapping[str, Shapes], *, advance: Advance = lambda _: None) -> None:
    """Cityscapes' layout: `leftImg8bit/{split}/shapes/*_leftImg8bit.png` and `gtFine/.../*_gtFine_labelIds.png`.

    Every shape stands for a Cityscapes class (`CITYSCAPES_ROLES`), so that the loader for its 19 classes works.
    """
    root = Path(root)
    _make_folders(root, [f"{part}/{split}/shapes" for part in ("leftImg8bit", "gtFine") for split in splits])
    for split, source in splits.items():
        ids = np.array([LABEL_IDS[CITYSCAPES_ROLES[shape]] for shape in ("background", *source.spec.classes)], np.uint8)
        for index in range(len(source)):
            scene, stem = source.scene(index), f"shapes_{index:06d}_000000"
            slots = np.concatenate([[0], scene.classes + 1])[scene.instances]
            _write_image(root / "leftImg8bit" / split / "shapes" / f"{stem}_leftImg8bit.png", scene.image)
            _write_image(root / "gtFine" / split / "shapes" / f"{stem}_gtFine_labelIds.png", ids[slots])
            advance(1)


def _coco_annotations(scene: Scene) -> list[dict[str, Any]]:
    height, width = scene.instances.shape
    rows = []
    for kind, (x1, y1, x2, y2), mask in zip(scene.classes, scene.boxes().tolist(), scene.masks(), strict=True):
        counts: Any = rle.encode(np.asfortranarray(mask, np.uint8))["counts"]  # bytes, despite its type stubs
        rows.append(
            {
                "category_id": int(kind) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": [height, width], "counts": counts.decode("ascii")},
            }
        )
    return rows


def _make_folders(root: Path, folders: Sequence[str]) -> None:
    """Create the folders, but never mix new scenes with existing files."""
    for folder in folders:
        path = root / folder
        if path.exists() and any(path.iterdir()):
            raise ValueError(f"{path} is not empty: choose another folder, or delete it if its scenes are not needed")
        path.mkdir(parents=True, exist_ok=True)


def _write_image(path: Path, image: Array) -> None:
    """RGB or single-channel uint8; encoded in memory, because cv2.imwrite does not support every path on Windows."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    _, data = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(data.tobytes())
