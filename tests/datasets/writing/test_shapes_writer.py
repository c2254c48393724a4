"""Scenes on disk, read back by the real loaders and by pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.labels import CITYSCAPES
from pocketvision.datasets.shapes import SHAPES, ShapesDetection, ShapesSegmentation
from pocketvision.datasets.writing.shapes_writer import CITYSCAPES_ROLES, write_cityscapes, write_coco
from pycocotools.coco import COCO


def _splits(**arguments: object) -> dict[str, ShapesDetection]:
    return {
        "train": ShapesDetection(length=6, size=(64, 96), seed=0, **arguments),
        "val": ShapesDetection(length=3, size=(64, 96), seed=1, **arguments),
    }


def test_empty_scenes_and_no_scenes(tmp_path: Path) -> None:
    splits = {
        "train": ShapesDetection(length=2, size=(32, 32), min_objects=0, max_objects=0),
        "val": ShapesDetection(length=0),
    }
    write_coco(tmp_path, splits)
    write_cityscapes(tmp_path, splits)
    source = CocoDetection(root=tmp_path, split="train2017")
    assert [len(source.read(index).boxes) for index in range(2)] == [0, 0]
    assert set(np.unique(Cityscapes(tmp_path, split="train").read(1).mask)) == {0}
    assert json.loads((tmp_path / "annotations/instances_val2017.json").read_text())["images"] == []


def test_coco_round_trip(tmp_path: Path) -> None:
    splits, steps = _splits(preset="hard"), []
    write_coco(tmp_path, splits, advance=steps.append)
    assert steps == [1] * 9
    image_ids: list[int] = []
    for split, source in splits.items():
        read = CocoDetection(root=tmp_path, split=f"{split}2017")
        assert read.labels.names == source.labels.names
        assert len(read) == len(source)
        for index in range(len(source)):
            before, after = source.read(index), read.read(index)
            np.testing.assert_array_equal(after.boxes, before.boxes)
            np.testing.assert_array_equal(after.labels, before.labels)
            for key, value in before.ground_truth.items():
                np.testing.assert_array_equal(after.ground_truth[key], value)
            error = after.image.astype(float) - before.image
            assert np.abs(error).mean() < 6  # JPEG, and not mixed up
            image_ids.append(after.image_id)
    assert len(set(image_ids)) == 9


def test_coco_masks_are_exact(tmp_path: Path) -> None:
    splits = _splits(classes=["ring", "star"])
    write_coco(tmp_path, splits)
    coco = COCO(tmp_path / "annotations/instances_train2017.json")
    for index, image_id in enumerate(sorted(coco.imgs)):
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        masks = splits["train"].scene(index).masks()
        assert len(annotations) == len(masks)
        for annotation, mask in zip(annotations, masks, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
    assert len(coco.anns) == len({annotation["id"] for annotation in coco.dataset["annotations"]}) > 6


def test_cityscapes_round_trip(tmp_path: Path) -> None:
    splits, steps = _splits(classes=list(SHAPES)), []
    write_cityscapes(tmp_path, splits, advance=steps.append)
    assert steps == [1] * 9
    slot_of = {name: slot for slot, name in CITYSCAPES.names.items()}
    table = np.array([slot_of[CITYSCAPES_ROLES[name]] for name in ("background", *SHAPES)])
    for split in splits:
        generated = ShapesSegmentation(
            length=len(splits[split]), size=(64, 96), seed=splits[split].seed, classes=list(SHAPES)
        )
        read = Cityscapes(tmp_path, split=split)
        assert len(read) == len(generated)
        for index in range(len(generated)):
            before, after = generated.read(index), read.read(index)
            np.testing.assert_array_equal(after.image, before.image)
            np.testing.assert_array_equal(after.mask, table[before.mask])


def test_roles_are_evaluated_classes_and_differ() -> None:
    assert set(CITYSCAPES_ROLES) == {"background", *SHAPES}
    assert len(set(CITYSCAPES_ROLES.values())) == len(CITYSCAPES_ROLES)
    assert set(CITYSCAPES_ROLES.values()) <= set(CITYSCAPES.names.values())


@pytest.mark.parametrize("write", [write_coco, write_cityscapes])
def test_scenes_are_never_mixed_with_older_ones(tmp_path: Path, write) -> None:
    write(tmp_path, {"train": ShapesDetection(length=1, size=(32, 32))})
    with pytest.raises(ValueError, match="is not empty: choose another folder"):
        write(tmp_path, {"train": ShapesDetection(length=1, size=(32, 32))})
