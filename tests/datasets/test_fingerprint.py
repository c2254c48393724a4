"""Fingerprints: moved data is the same data, and whatever else training would read differently is other data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.annotations.sample import digest
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.labels import Label, LabelMap, coco_labels, segmentation_labels
from pocketvision.datasets.loading.augmented import FirstSamples
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.shapes import SceneSpec, ShapesDetection, ShapesSegmentation

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
EMPTY_BOXES = np.zeros((0, 4))


# ---- digest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), ("",)),
        (("",), ("", "")),
        ((EMPTY_BOXES,), ()),
        ((EMPTY_BOXES,), (np.zeros((0, 2)),)),
        ((EMPTY_BOXES,), (EMPTY_BOXES.astype(np.float32),)),
        (("ab", "c"), ("a", "bc")),
        (("ab",), ("a", "b")),
        ((np.arange(4),), (np.arange(2), np.arange(2, 4))),
        ((np.arange(4),), (np.arange(4).reshape(2, 2),)),
        ((np.arange(4),), (np.arange(4).view(np.float64),)),
        ((np.arange(4),), (np.arange(4).tobytes().decode(),)),
        ((np.array(["a"]),), ("a",)),
        ((np.array([False]),), (np.array([0], np.uint8),)),
        ((np.array(1),), (np.array([1]),)),
    ],
)
def test_sequences_that_differ_have_different_digests(first: Any, second: Any) -> None:
    assert digest(*first) != digest(*second)
    assert digest(*first) == digest(*first)


def test_a_digest_is_of_the_content_and_not_of_its_layout() -> None:
    rows = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert digest(rows) == digest(np.asfortranarray(rows)) == digest(rows.astype(">i8")) == digest(rows[:, ::1])
    assert digest(np.arange(6)[::2]) == digest(np.array([0, 2, 4]))
    assert digest() == "e3b0c44298fc1c14"  # sha256 of nothing


def test_objects_have_no_digest() -> None:
    with pytest.raises(TypeError, match="array of object has no fingerprint"):
        digest(np.array([None, "a"], object))


# ---- coco ------------------------------------------------------------------------------------------------


def box(image: int, category: int = 1, bbox: tuple = (2, 3, 10, 8), **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def write_coco(root: Path, annotations: list[dict[str, Any]] | None = None, *, num_images: int = 3) -> None:
    """A json with empty files for pictures, which nothing here decodes."""
    annotations = [box(1), box(1, 3), box(3, iscrowd=1, area=7.0)] if annotations is None else annotations
    (root / "pictures").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "height": 30, "width": 40} for i in range(1, num_images + 1)]
    for name in (*(image["file_name"] for image in images), "renamed.png"):
        (root / "pictures" / name).touch()
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "a.json").write_text(json.dumps(content))


def coco(root: Path, **arguments: Any) -> str:
    return CocoDetection(root / "a.json", root / "pictures", **arguments).fingerprint()


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    write_coco(tmp_path / "coco")
    return tmp_path / "coco"


def test_coco_without_annotations(tmp_path: Path) -> None:
    write_coco(tmp_path / "none", [])
    write_coco(tmp_path / "one", [box(1)])
    assert coco(tmp_path / "none") == coco(tmp_path / "none")
    assert coco(tmp_path / "none") != coco(tmp_path / "one")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["annotations"].clear(),
        lambda d: d["annotations"].pop(),
        lambda d: d["annotations"].append(box(2)),
        lambda d: d["annotations"].append(box(2, bbox=(50, 50, 5, 5))),  # outside: evaluation counts it
        lambda d: d["annotations"].reverse(),  # another order within an image
        lambda d: d["annotations"][0].update(image_id=2),
        lambda d: d["annotations"][0].update(category_id=3),
        lambda d: d["annotations"][0]["bbox"].__setitem__(2, 10.001),
        lambda d: d["annotations"][0].update(iscrowd=1),
        lambda d: d["annotations"][0].update(area=79.0),
        lambda d: d["images"].pop(1),
        lambda d: d["images"].reverse(),
        lambda d: d["images"][1].update(id=9),
        lambda d: d["images"][1].update(file_name="renamed.png"),
        lambda d: d["images"][1].update(width=41),
        lambda d: d["images"][1].update(height=31),
        lambda d: d["categories"][0].update(name="people"),
        lambda d: d["categories"].append({"id": 2, "name": "bicycle"}),
        lambda d: d["categories"].append({"id": 4, "name": "bus"}),
    ],
)
def test_changed_coco_is_other_data(coco_root: Path, change: Any) -> None:
    before = coco(coco_root)
    content = json.loads((coco_root / "a.json").read_text())
    change(content)
    (coco_root / "a.json").write_text(json.dumps(content))
    assert coco(coco_root) != before


def test_coco_is_what_it_reads_and_not_how_that_was_asked_for(coco_root: Path, tmp_path: Path) -> None:
    assert coco(coco_root, limit=3) == coco(coco_root, limit=99) == coco(coco_root)
    # Images beyond the limit leave no trace, even where their names are longer.
    content = json.loads((coco_root / "a.json").read_text())
    content["images"][2]["file_name"] = "renamed.png"
    (coco_root / "a.json").write_text(json.dumps(content))
    write_coco(tmp_path / "short", [box(1), box(1, 3)], num_images=2)
    assert coco(coco_root, limit=2) == coco(tmp_path / "short")


# ---- masks -----------------------------------------------------------------------------------------------


def write_city(root: Path) -> None:
    """Cityscapes' layout with files of a few bytes for pictures."""
    for name in ("bonn/a", "bonn/b", "ulm/c"):
        for start, ends in (("leftImg8bit", ("leftImg8bit",)), ("gtFine", ("gtFine_labelIds", "gtFine_labelTrainIds"))):
            for end in ends:
                path = root / start / "train" / f"{name}_{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"xyz")


def write_masks(root: Path) -> None:
    for name in ("deep/über, y", "x", "z"):
        for folder, end, content in (("images", "jpg", b""), ("labels", "png", b"xyz")):
            path = root / "train" / folder / f"{name}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def masks(root: Path, **arguments: Any) -> str:
    return MaskFolder(root, **{"classes": ["sky", "road"], **arguments}).fingerprint()


def city(root: Path, **arguments: Any) -> str:
    return Cityscapes(root, **arguments).fingerprint()


def write_folders(root: Path) -> None:
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "train" / name).write_bytes(b"xyz")


def folders(root: Path, **arguments: Any) -> str:
    return ImageFolder(root, **arguments).fingerprint()


# How a data set is written, and how its fingerprint is read.
KINDS = {
    "coco": (write_coco, coco),
    "masks": (write_masks, masks),
    "city": (write_city, city),
    "folders": (write_folders, folders),
}


@pytest.mark.parametrize("kind", KINDS)
def test_moved_data_is_the_same(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write, fingerprint = KINDS[kind]
    write(tmp_path / "data")
    before = fingerprint(tmp_path / "data")
    assert (len(before), int(before, 16) >= 0) == (16, True)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere" / "deep")
    assert fingerprint(tmp_path / "elsewhere" / "deep") == before
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fingerprint(Path("deep")) == before


def test_masks_named_by_two_folders_are_the_same(tmp_path: Path) -> None:
    write_masks(tmp_path)
    train = tmp_path / "train"
    pair = MaskFolder(images=train / "images", masks=train / "labels", classes=["sky", "road"])
    assert pair.fingerprint() == masks(tmp_path)
    shutil.move(train / "labels", tmp_path / "truth")
    pair = MaskFolder(images=train / "images", masks=tmp_path / "truth", classes=["sky", "road"])
    shutil.move(tmp_path / "truth", train / "labels")
    with pytest.raises(FileNotFoundError):
        pair.fingerprint()
    assert masks(tmp_path, limit=3) == masks(tmp_path)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("masks", "train/labels/x.png", None),
        ("masks", "train/images/x.jpg", "train/images/x.png"),
        ("masks", "train/labels/x.png", "train/labels/x.bmp"),
        ("city", "leftImg8bit/train/ulm/c_leftImg8bit.png", None),
        ("city", "gtFine/train/ulm/c_gtFine_labelIds.png", None),
        ("folders", "train/b/2.png", None),
        ("folders", "train/b/2.png", "train/a/2.png"),
        ("folders", "train/b", "train/c"),
    ],
)
def test_changed_files_are_other_data(tmp_path: Path, kind: str, old: str, new: str | None) -> None:
    """A file is renamed, or for None: it grows by a byte; of Cityscapes an image goes."""
    write, fingerprint = KINDS[kind]
    write(tmp_path)
    before = fingerprint(tmp_path)
    if new is not None:
        (tmp_path / old).rename(tmp_path / new)
    elif "leftImg8bit" in old:
        (tmp_path / old).unlink()
    else:
        (tmp_path / old).write_bytes(b"wxyz")
    assert fingerprint(tmp_path) != before


NAMED = LabelMap((Label(0, "sky", 1), Label(1, "road", 0)), 2)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("coco", {"limit": 2}),
        ("coco", {"with_annotations_only": True}),
        ("coco", {"slots": "coco91"}),
        ("coco", {"labels": coco_labels()}),
        ("masks", {"limit": 2}),
        ("masks", {"classes": ["road", "sky"]}),
        ("masks", {"classes": ["sky", "road", "tree"]}),
        ("masks", {"classes": NAMED}),  # the same names, but of other values
        ("masks", {"ignore_ids": [7]}),
        ("city", {"limit": 2}),
        ("city", {"suffix": "labelTrainIds"}),
        ("folders", {"limit": 2}),
    ],
    ids=str,
)
def test_data_read_otherwise_are_other_data(tmp_path: Path, kind: str, arguments: dict[str, Any]) -> None:
    write, fingerprint = KINDS[kind]
    write(tmp_path)
    assert fingerprint(tmp_path, **arguments) != fingerprint(tmp_path)
    assert fingerprint(tmp_path, **arguments) == fingerprint(tmp_path, **arguments)


def test_masks_are_what_is_read_and_not_how_that_was_asked_for(tmp_path: Path) -> None:
    write_masks(tmp_path / "masks")
    write_city(tmp_path / "city")
    assert masks(tmp_path / "masks") == masks(tmp_path / "masks", classes=segmentation_labels(["sky", "road"]))
    assert city(tmp_path / "city") == city(tmp_path / "city", suffix="labelIds", limit=99)
    before = masks(tmp_path / "masks")
    os.utime(tmp_path / "masks/train/labels/x.png", (0, 0))  # copying may set another time
    assert masks(tmp_path / "masks") == before


# ---- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", [ShapesDetection, ShapesSegmentation])
@pytest.mark.parametrize(
    "change",
    [
        {"length": 0},
        {"length": 6},
        {"size": (64, 48)},
        {"seed": 1},
        {"preset": "hard"},
        {"classes": ("circle", "triangle", "square")},
        {"min_side": 0.21},
        {"max_side": 0.59},
        {"min_objects": 2},
        {"max_objects": 5},
        {"min_visible": 0.5},
        {"shuffle_labels": True},
    ],
    ids=str,
)
def test_other_scenes_are_other_data(shapes: Any, change: dict[str, Any]) -> None:
    same = {"length": 5, "size": (48, 64)}
    changed = shapes(**{**same, **change}).fingerprint()
    assert changed != shapes(**same).fingerprint()
    assert changed == shapes(**{**same, **change}).fingerprint()


def test_scenes_are_what_is_painted_and_not_how_that_was_asked_for() -> None:
    standard = SceneSpec()
    spelled = ShapesDetection(length=5, size=[128, 128], classes=list(standard.classes), min_side=standard.min_side)
    assert spelled.fingerprint() == ShapesDetection(length=5).fingerprint()
    assert ShapesSegmentation(length=5).fingerprint() != ShapesDetection(length=5).fingerprint()


def test_first_samples() -> None:
    source = ShapesDetection(length=5)
    first = FirstSamples(source, 2).fingerprint()
    assert first == FirstSamples(ShapesDetection(length=5), 2).fingerprint()
    others = (source, FirstSamples(source, 3), FirstSamples(ShapesDetection(length=5, seed=1), 2))
    assert first not in {other.fingerprint() for other in others}


def test_another_process_finds_the_same(coco_root: Path, tmp_path: Path) -> None:
    """Python seeds its own `hash` anew in every process."""
    write_masks(tmp_path / "masks")
    code = (
        "import sys; from pocketvision.datasets.coco import CocoDetection as C; "
        "from pocketvision.datasets.mask_folder import MaskFolder as M; "
        "from pocketvision.datasets.shapes import ShapesDetection as S; "
        "from pocketvision.datasets.loading.augmented import FirstSamples as F; r = sys.argv[1]; "
        "print(C(r + '/coco/a.json', r + '/coco/pictures').fingerprint(), "
        "M(r + '/masks', classes=['sky', 'road']).fingerprint(), F(S(length=5), 2).fingerprint())"
    )
    own = [coco(coco_root), masks(tmp_path / "masks"), FirstSamples(ShapesDetection(length=5), 2).fingerprint()]
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == own
