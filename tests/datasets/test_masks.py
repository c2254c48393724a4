"""Cityscapes' layout and folders of masks."""

import json

import cv2
import numpy as np
import pytest
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.labels import CITYSCAPES, CITYSCAPES_TABLE, segmentation_labels
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.mask_folder import MaskFolder

SKY_ROAD = ["sky", "road"]
IDS = np.array([[row[1] for row in CITYSCAPES_TABLE]], np.int64)
TRAIN_IDS = np.array([[row[2] for row in CITYSCAPES_TABLE]], np.uint8)


def _write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


@pytest.fixture
def city(tmp_path):
    """Two images; labelIds holds every row of the official table (-1 as 255), labelTrainIds what it maps to."""
    for name in ("a_0_1", "b_0_2"):
        _write(tmp_path / f"leftImg8bit/val/town/{name}_leftImg8bit.png", np.zeros((1, IDS.size, 3), np.uint8))
        _write(tmp_path / f"gtFine/val/town/{name}_gtFine_labelIds.png", IDS.astype(np.uint8))
        _write(tmp_path / f"gtFine/val/town/{name}_gtFine_labelTrainIds.png", TRAIN_IDS)
    return tmp_path


def test_cityscapes_by_both_suffixes(city):
    for suffix, how in ((None, "labelIds.png (detected)"), ("labelTrainIds", "labelTrainIds.png (as set)")):
        data = Cityscapes(city, split="val", suffix=suffix)
        assert (len(data), data.labels) == (2, CITYSCAPES)
        sample = data.read(0)
        assert (sample.image_id, sample.boxes) == ("a_0_1", None)
        np.testing.assert_array_equal(sample.mask, TRAIN_IDS)
        np.testing.assert_array_equal(sample.ground_truth["mask"], TRAIN_IDS)
        assert how in data.notes[0]
    assert len(Cityscapes(city, split="val", limit=1)) == 1
    for path in city.glob("gtFine/val/town/*_labelIds.png"):
        path.unlink()
    data = Cityscapes(city, split="val")
    assert "labelTrainIds.png (detected)" in data.notes[0]
    np.testing.assert_array_equal(data.read(1).mask, TRAIN_IDS)


def _evaluated(city):
    data = Cityscapes(city, split="val")
    made = AugmentedDataset(data, transform=Transform(input_size=None, resize="none"), ground_truth=True)
    return data, made[0][2]["ground_truth"]


def test_evaluation_reads_instances_where_all_images_have_them(city):
    data, truth = _evaluated(city)
    assert (len(data.notes), set(truth)) == (1, {"mask"})
    ids = IDS.clip(0).astype(np.uint16) * 1000 + 7
    _write(city / "gtFine/val/town/a_0_1_gtFine_instanceIds.png", ids)
    data, truth = _evaluated(city)
    assert data.notes[1:] == ["1 file *_gtFine_instanceIds.png, but for 2 images: not used, no iIoU"]
    assert set(truth) == {"mask"}
    _write(city / "gtFine/val/town/b_0_2_gtFine_instanceIds.png", ids)
    data, truth = _evaluated(city)
    assert data.notes[1:] == ["2 files *_gtFine_instanceIds.png, for iIoU"]
    np.testing.assert_array_equal(truth["instances"], ids)
    training = AugmentedDataset(data, transform=Transform(input_size=None, resize="none"))
    assert "ground_truth" not in training[0][2]
    _write(city / "gtFine/val/town/a_0_1_gtFine_instanceIds.png", ids[:, :3])
    with pytest.raises(ValueError, match=r"a_0_1_leftImg8bit\.png decodes to .*a_0_1_gtFine_instanceIds\.png says 3x1"):
        _evaluated(city)


def test_a_split_without_truth(city):
    _write(city / "leftImg8bit/test/town/c_0_3_leftImg8bit.png", np.full((2, 4, 3), 9, np.uint8))
    data = Cityscapes(city, split="test", truth=False)
    sample = data.read(0)
    assert (sample.image_id, sample.image.shape, sample.mask, sample.ground_truth) == ("c_0_3", (2, 4, 3), None, None)
    assert "without ground truth" in data.notes[0]
    assert data.fingerprint() == Cityscapes(city, split="test", truth=False).fingerprint()
    with pytest.raises(FileNotFoundError, match="1 of 1 label file of split 'test' missing"):
        Cityscapes(city, split="test")


def test_cityscapes_errors(city):
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*leftImg8bit.train.*leftImg8bit/SPLIT/CITY"):
        Cityscapes(city)
    with pytest.raises(ValueError, match="unknown suffix 'ids'"):
        Cityscapes(city, split="val", suffix="ids")
    with pytest.raises(ValueError, match="limit=0"):
        Cityscapes(city, split="val", limit=0)
    (city / "gtFine/val/town/b_0_2_gtFine_labelIds.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 label files of split 'val'.*b_0_2_gtFine_labelIds\.png"):
        Cityscapes(city, split="val")
    _write(city / "gtFine/val/town/b_0_2_gtFine_labelIds.png", np.full((1, IDS.size), 34, np.uint8))
    with pytest.raises(ValueError, match=r"b_0_2_gtFine_labelIds\.png contains the values \[34\]"):
        Cityscapes(city, split="val").read(1)
    (city / "leftImg8bit/train/town").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images in .*train"):
        Cityscapes(city)


@pytest.fixture
def folder(tmp_path):
    """SPLIT/images and SPLIT/labels with two classes, 11 for what is ignored."""
    for name in ("x", "deep/über, y"):
        _write(tmp_path / f"train/images/{name}.jpg", np.zeros((2, 4, 3), np.uint8))
        _write(tmp_path / f"train/labels/{name}.png", np.array([[0, 1, 11, 255], [1, 1, 1, 1]], np.uint8))
    return tmp_path


def test_all_ignored_is_a_mask(folder):
    _write(folder / "train/labels/x.png", np.full((2, 4), 255, np.uint8))
    assert (MaskFolder(folder, classes=SKY_ROAD).read(1).mask == 255).all()


def test_mask_folder(folder):
    (folder / "train/images/.DS_Store").touch()
    _write(folder / "train/labels/spare.png", np.zeros((2, 4), np.uint8))
    data = MaskFolder(folder, classes=SKY_ROAD, ignore_ids=[11])
    assert data.image_ids.tolist() == ["deep/über, y", "x"]
    np.testing.assert_array_equal(data.read(0).mask, [[0, 1, 255, 255], [1, 1, 1, 1]])
    assert "2 classes, ignored: [11, 255]" in data.notes[0]
    assert "1 mask in" in data.notes[1]
    assert len(MaskFolder(folder, classes=SKY_ROAD, ignore_ids=[11], limit=1)) == 1
    same = MaskFolder(
        images=folder / "train/images",
        masks=folder / "train/labels",
        classes=segmentation_labels(SKY_ROAD),
        ignore_ids=[11],
    )
    np.testing.assert_array_equal(same.read(1).mask, data.read(1).mask)


def test_more_classes_than_a_mask_can_hold(folder):
    names = [f"class {i}" for i in range(255)]
    assert MaskFolder(folder, split="train", classes=names[:254]).labels.num_classes == 254
    with pytest.raises(ValueError, match="255 classes: a mask of one byte per pixel has room for 254"):
        MaskFolder(folder, split="train", classes=names)


def test_classes_with_numbers_of_their_own(folder):
    (folder / "classes.csv").write_text("id,name\n11,sky\n1,road\n0,tree\n")
    data = MaskFolder(folder, classes=folder / "classes.csv")
    np.testing.assert_array_equal(data.read(0).mask, [[2, 1, 0, 255], [1, 1, 1, 1]])


def test_mask_suffix(tmp_path):
    _write(tmp_path / "images/x.png", np.zeros((2, 2, 3), np.uint8))
    _write(tmp_path / "masks/x_L.png", np.ones((2, 2), np.uint8))
    data = MaskFolder(images=tmp_path / "images", masks=tmp_path / "masks", classes=SKY_ROAD, mask_suffix="_L")
    assert data.read(0).mask.tolist() == [[1, 1], [1, 1]]


def test_one_suffix_of_all_masks_is_found(tmp_path):
    for name in ("f1", "f10", "f_2"):
        _write(tmp_path / f"images/{name}.png", np.zeros((2, 2, 3), np.uint8))
        _write(tmp_path / f"labels/{name}_L.png", np.ones((2, 2), np.uint8))
    data = MaskFolder(tmp_path, classes=SKY_ROAD)
    assert {path.rpartition("/")[2] for path in data.mask_paths} == {"f1_L.png", "f10_L.png", "f_2_L.png"}
    assert any("have '_L' after the image's name" in note for note in data.notes)
    _write(tmp_path / "labels/f1_color.png", np.ones((2, 2), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"3 of 3 images in .* have no mask"):
        MaskFolder(tmp_path, classes=SKY_ROAD)


def test_mask_folder_errors(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"\.png contains the values \[11\].*2 classes with the values \[0, 1\].*ignore_ids"
    ):
        MaskFolder(folder, classes=SKY_ROAD).read(0)
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*val.images"):
        MaskFolder(folder, classes=SKY_ROAD, split="val")
    with pytest.raises(ValueError, match="set either root"):
        MaskFolder(folder, classes=SKY_ROAD, images=folder)
    with pytest.raises(ValueError, match="set either root"):
        MaskFolder(classes=SKY_ROAD, images=folder)
    with pytest.raises(ValueError, match="values 0 to 255, but the class list has 300"):
        MaskFolder(folder, classes=segmentation_labels(_ids_file(folder, 300)))
    _write(folder / "train/images/x.png", np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"x\.jpg and .*x\.png differ only in their extension"):
        MaskFolder(folder, classes=SKY_ROAD)
    (folder / "train/images/x.png").unlink()
    _write(folder / "train/labels/x.png", np.zeros((4, 2), np.uint8))
    with pytest.raises(ValueError, match=r"x\.jpg decodes to 4x2.*labels.x\.png says 2x4"):
        MaskFolder(folder, classes=SKY_ROAD).read(1)
    (folder / "train/labels/x.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* no mask .*x\.\*"):
        MaskFolder(folder, classes=SKY_ROAD)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images in .*none"):
        MaskFolder(images=tmp_path / "none", masks=folder / "train/labels", classes=SKY_ROAD)


def _ids_file(folder, number):
    (folder / "ids.csv").write_text(f"id,name\n{number},sky\n")
    return folder / "ids.csv"


def test_real_folders(data_root):
    camvid = MaskFolder(data_root / "camvid", split="val", classes=list("abcdefghijk"), ignore_ids=[11])
    assert (len(camvid), camvid.labels.num_classes) == (101, 11)
    assert set(np.unique(camvid.read(5).mask)) <= {*range(11), 255}
    ids, train_ids = (Cityscapes(data_root / "cityscapes_layout", suffix=s) for s in ("labelIds", "labelTrainIds"))
    assert len(ids) == len(train_ids) == 24
    for index in range(0, 24, 6):
        np.testing.assert_array_equal(ids.read(index).mask, train_ids.read(index).mask)


@pytest.mark.parametrize(
    ("image", "mask", "suffix"),
    [
        ("a.jpg", "A.PNG", ""),
        ("a.jpg", "a.jpg.png", ""),
        ("a b.jfif", "a%20b.png", ""),
        ("sub/a.jpg", "sub\\a.png", ""),
        ("caf\u00e9.jpg", "cafe\u0301.png", ""),
        ("a.jpg", "A_l.png", "_L"),
        ("a.jpg", "a.jpg_L.png", "_L"),
    ],
)
def test_a_mask_in_another_spelling_is_read_and_said(tmp_path, image, mask, suffix):
    _write(tmp_path / "images/x.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "images" / image).parent.mkdir(exist_ok=True)
    (tmp_path / "images/x.png").rename(tmp_path / "images" / image)
    _write(tmp_path / "labels" / mask, np.ones((2, 2), np.uint8))
    data = MaskFolder(tmp_path, classes=SKY_ROAD, mask_suffix=suffix)
    assert data.mask_paths == [str(tmp_path / "labels" / mask)]
    assert any(mask in note and "is read as the mask of" in note for note in data.notes)
    faults = []
    MaskFolder(tmp_path, classes=SKY_ROAD, mask_suffix=suffix, report=faults.append)
    assert [fault.kind for fault in faults] == ["near_name"]


def test_hidden_folders_and_links_of_masks(tmp_path, city):
    for folder in ("images", "labels", "disk/images", "disk/labels"):
        _write(tmp_path / folder / "a.png", np.zeros((2, 2), np.uint8))
    _write(tmp_path / "images/.ipynb_checkpoints/a-checkpoint.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "images/._a.png").write_bytes(b"Mac OS X")
    for folder in ("images", "labels"):
        (tmp_path / folder / "day1").symlink_to(tmp_path / "disk" / folder)
    data = MaskFolder(tmp_path, classes=SKY_ROAD)
    assert list(data.image_ids) == ["a", "day1/a"]
    assert any("1 hidden file (._a.png); 1 hidden folder (.ipynb_checkpoints)" in note for note in data.notes)
    (city / "leftImg8bit/val/town/._a_0_1_leftImg8bit.png").write_bytes(b"Mac OS X")
    assert len(Cityscapes(city, split="val")) == 2
    assert "hidden file" in Cityscapes(city, split="val").notes[-1]


def test_a_list_of_masks_in_another_spelling(tmp_path):
    for name in ("a b", "c"):
        for folder in ("images", "labels"):
            _write(tmp_path / folder / f"{name}.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "train.txt").write_text("A%20b.png\nc\n")
    assert list(MaskFolder(tmp_path, classes=SKY_ROAD).image_ids) == ["a b", "c"]


def _folder(tmp_path, mask):
    _write(tmp_path / "train/images/a.png", np.zeros((*mask.shape, 3), np.uint8))
    _write(tmp_path / "train/labels/a.png", mask)
    return tmp_path


def test_ignored_numbers_of_named_classes_are_told(tmp_path):
    """A list that counts from 1 moves all names by one, when 0 is ignored."""
    _folder(tmp_path, np.array([[0, 1, 2]], np.uint8))
    found = []
    source = MaskFolder(tmp_path, classes=["red", "green", "blue"], ignore_ids=[0], report=found.append)
    assert [(fault.kind, fault.path) for fault in found] == [("class_ignored", "data.classes")]
    expected = "has 0, the number of the class 'red', as the list counts from 0: it is left out, and 1 is 'green'"
    assert expected in source.notes[1]
    for classes, note in (
        (["background", "red", "green"], ["left out, because ignore_ids lists their numbers: background (0)"]),
        ({"1": "red", "2": "green"}, []),
    ):
        (tmp_path / "a.json").write_text(json.dumps(classes))
        source = MaskFolder(tmp_path, classes=tmp_path / "a.json", ignore_ids=[0], report=pytest.fail)
        assert (source.notes[1:], source.read(0).mask.tolist()) == (note, [[255, 0, 1]])


def test_a_class_may_have_the_number_255(tmp_path):
    _folder(tmp_path, np.array([[0, 255, 7]], np.uint8))
    (tmp_path / "a.csv").write_text("name,id,r,g,b\nbackground,0,0,0,0\nthing,255,255,255,255\n")
    source = MaskFolder(tmp_path, classes=tmp_path / "a.csv", ignore_ids=[7], ignore_colors=[[9, 9, 9]])
    assert (source.read(0).mask.tolist(), source.labels.source_ids) == ([[0, 1, 255]], {0: 0, 1: 255})
    assert "ignored: [7]" in source.notes[0]
    _write(tmp_path / "train/labels/a.png", np.array([[[0] * 3, [255] * 3, [9] * 3]], np.uint8))
    assert source.read(0).mask.tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match=r"255 is the number of a class.*ignore_ids"):
        MaskFolder(tmp_path, classes=tmp_path / "a.csv", ignore_colors=[[9, 9, 9]])
