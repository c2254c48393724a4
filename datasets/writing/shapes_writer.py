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

Progress = Callable[[int, int], object]  # scenes written, scenes in total

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


def write_coco(
    root: str | Path, splits: Mapping[str, Shapes], *, year: int = 2017, progress: Progress | None = None
) -> None:
    """COCO's layout: `annotations/instances_{split}{year}.json` and `{split}{year}/000000000001.jpg`.

    Image and annotation ids are unique over the splits. Masks are RLE, which is exact, and `area` counts their pixels.
    """
    root = Path(root)
    _make_folders(root, ["annotations", *(f"{split}{year}" for split in splits)])
    total, image_id, annotation_id = sum(map(len, splits.values())), 0, 0
    for split, source in splits.items():
        images, annotations = [], []
        for index in range(len(source)):
            image_id += 1
            scene, name = source.scene(index), f"{image_id:012d}.jpg"
            _write_image(root / f"{split}{year}" / name, scene.image, jpeg_quality=95)
            images.append({"id": image_id, "file_name": name, "height": source.size[0], "width": source.size[1]})
            for annotation in _coco_annotations(scene):
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": image_id, **annotation})
            if progress:
                progress(image_id, total)
        content = {
            "info": {"description": f"Generated shapes, {split}", "year": year},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": "shape"}
                for number, name in enumerate(source.spec.classes, start=1)
            ],
        }
        (root / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(content), encoding="utf-8")


def write_cityscapes(root: str | Path, splits: Mapping[str, Shapes], *, progress: Progress | None = None) -> None:
    """Cityscapes' layout: `leftImg8bit/{split}/shapes/*_leftImg8bit.png` and `gtFine/.../*_gtFine_labelIds.png`.

    Every shape stands for a Cityscapes class (`CITYSCAPES_ROLES`), so that the loader for its 19 classes works.
    """
    root = Path(root)
    _make_folders(root, [f"{part}/{split}/shapes" for part in ("leftImg8bit", "gtFine") for split in splits])
    total, done = sum(map(len, splits.values())), 0
    for split, source in splits.items():
        ids = np.array([_label_id(name) for name in ("background", *source.spec.classes)], np.uint8)
        for index in range(len(source)):
            scene, stem = source.scene(index), f"shapes_{index:06d}_000000"
            slots = np.concatenate([[0], scene.classes + 1])[scene.instances]
            _write_image(root / "leftImg8bit" / split / "shapes" / f"{stem}_leftImg8bit.png", scene.image)
            _write_image(root / "gtFine" / split / "shapes" / f"{stem}_gtFine_labelIds.png", ids[slots])
            done += 1
            if progress:
                progress(done, total)


def _label_id(shape: str) -> int:
    """Cityscapes' labelId of the class that a shape stands for."""
    return next(row[1] for row in CITYSCAPES_TABLE if row[0] == CITYSCAPES_ROLES[shape])


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


def _write_image(path: Path, image: Array, *, jpeg_quality: int = 95) -> None:
    """RGB or single-channel uint8; encoded in memory, because cv2.imwrite does not support every path on Windows."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == ".jpg" else []
    _, data = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(data.tobytes())
