"""Folders of classes: the order is torchvision's, the slots are the training split's, faults are named."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.labels import imagenet_labels
from pocketvision.datasets.loading.augmented import AugmentedDataset, FirstSamples
from pocketvision.datasets.loading.batches import collate
from torchvision.datasets import ImageFolder as TorchvisionImageFolder


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((4, 6, 3), value, np.uint8))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Names that sort differently by case, by number and by folder."""
    for number, name in enumerate(
        ("b/2.png", "b/10.png", "b/sub/1.png", "b/sub-a/1.png", "a/z.JPG", "a/A.jpeg", "Zoo/é.bmp", "a b/1.png")
    ):
        write(tmp_path / "train" / name, 20 * number)
    write(tmp_path / "val" / "b" / "1.png")
    write(tmp_path / "val" / "Zoo" / "1.png")
    (tmp_path / "train" / "b" / "notes.txt").write_text("no image")
    return tmp_path


def test_splits_as_other_tools_call_them(root: Path) -> None:
    (root / "val").rename(root / "Valid")
    assert ImageFolder(root, split="val", labels=ImageFolder(root).labels).folder == root / "Valid"


def test_a_link_to_nothing_is_told(root: Path) -> None:
    (root / "val/b/2.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"val/b/2\.png does not exist: it is a link to nothing"):
        ImageFolder(root, split="val")
    faults = []
    assert len(ImageFolder(root, split="val", report=faults.append)) == 2
    assert [fault.kind for fault in faults] == ["missing"]


def test_classes_and_images_in_torchvisions_order(root: Path) -> None:
    ours, theirs = ImageFolder(root), TorchvisionImageFolder(str(root / "train"))
    assert ours.labels.names == dict(enumerate(theirs.classes))
    assert list(ours.labels.names.values()) == ["Zoo", "a", "a b", "b"]
    samples = [ours.read(i) for i in range(len(ours))]
    assert [(sample.path, sample.label) for sample in samples] == theirs.samples
    assert samples[0].image_id == "Zoo/é.bmp"
    assert samples[0].image.shape == (4, 6, 3)


def test_hidden_files_and_folders_are_left_out(root: Path) -> None:
    before = ImageFolder(root).fingerprint()
    write(root / "train" / "b" / ".hidden.png")
    write(root / "train" / ".cache" / "1.png")
    write(root / "train" / "b" / ".thumbs" / "1.png")
    assert ImageFolder(root).fingerprint() == before


def test_slots_of_the_validation_split_are_those_of_training(root: Path) -> None:
    labels = ImageFolder(root).labels
    val = ImageFolder(root, split="val", labels=labels)
    assert [val.read(i).label for i in range(len(val))] == [0, 3]
    assert val.labels is labels
    assert "2 of 4 classes have no folder" in val.notes
    write(root / "val" / "cat" / "1.png")
    with pytest.raises(ValueError, match="has the class cat, which the training data or the model does not have"):
        ImageFolder(root, split="val", labels=labels)


def test_faults_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*test"):
        ImageFolder(root, split="test")
    (root / "empty").mkdir()
    write(root / "empty" / "1.png")
    with pytest.raises(FileNotFoundError, match="empty has no subfolders"):
        ImageFolder(root, split="empty")
    (root / "train" / "new").mkdir()
    with pytest.raises(FileNotFoundError, match=r"class folder .*new has no images \(extensions \.avif, \.bmp"):
        ImageFolder(root)
    with pytest.raises(ValueError, match="limit=0"):
        ImageFolder(root, split="val", limit=0)


def test_a_few_images_are_of_all_classes(root: Path) -> None:
    whole = ImageFolder(root)
    assert [whole.read(i).label for i in range(8)] == [0, 1, 1, 2, 3, 3, 3, 3]
    few = ImageFolder(root, limit=4)
    assert [few.read(i).label for i in range(len(few))] == [0, 1, 3, 3]
    spread = FirstSamples(whole, 4, spread=True)
    assert [spread.read(i).label for i in range(len(spread))] == [0, 1, 3, 3]
    first = FirstSamples(whole, 4)
    assert [first.read(i).label for i in range(len(first))] == [0, 1, 1, 2]
    assert len({source.fingerprint() for source in (whole, few, spread, first)}) == 4


def test_a_batch_has_a_label_for_each_image(root: Path) -> None:
    dataset = AugmentedDataset(ImageFolder(root), transform=Transform(input_size=(8, 8), resize="center_crop"))
    batch = collate([dataset[i] for i in (0, 4)])
    assert batch.images.shape == (2, 3, 8, 8)
    assert [target["label"].item() for target in batch.targets] == [0, 3]
    assert batch.targets[0]["label"].shape == ()


def test_imagenets_own_folders_are_the_classes_in_their_order(tmp_path: Path) -> None:
    names = [f"n{number:08d}" for number in range(1000)]
    for name in names:
        folder = tmp_path / "val" / name
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    for background in (False, True):
        source = ImageFolder(tmp_path, split="val", labels=imagenet_labels(background=background))
        assert len(source) == 1000
        assert source._shared["slots"].tolist() == list(range(background, 1000 + background))
    shutil.rmtree(tmp_path / "val" / names[7])
    with pytest.raises(
        ValueError, match=r"has the class n00000000, .* which the training data or the model does not have"
    ):
        ImageFolder(tmp_path, split="val", labels=imagenet_labels())


def test_what_is_left_out_is_said(root: Path) -> None:
    before = ImageFolder(root).image_ids
    (one,) = [next((root / "train").glob("*/*"))]
    for name in ("loose.png", "__MACOSX/._x.png"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).touch()
    for name in ("._x.png", "y.raw"):
        (one.parent / name).touch()
    (one.parent / "again").symlink_to(one.parent)
    data = ImageFolder(root)
    assert data.image_ids == before
    assert "has images outside the class folders, 1 in number, such as loose.png" in data.notes[-1]
    assert "(and 1 more like it)" in data.notes[-1]
    faults = []
    ImageFolder(root, report=faults.append)
    assert [fault.kind for fault in faults] == ["left_out", "left_out"]
    assert "(y.raw); 1 folder that is read under another name (again); 1 hidden file (._x.png)" in faults[1].message
