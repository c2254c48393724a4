"""Label pictures in colour, lists of splits, one folder for all; PASCAL VOC's segmentation."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra.errors import InstantiationException
from PIL import Image
from pocketvision.datasets.images.label_colors import ColorTable
from pocketvision.datasets.labels import IGNORE, voc_labels
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.tools.config.build import build_source, compose

CLASSES = "name,r,g,b\nsky,128,128,128\nroad,128,64,128\ncar,64,0,128\nvoid,0,0,0\n"
COLORS = np.array([[128, 128, 128], [128, 64, 128], [64, 0, 128], [0, 0, 0]], np.uint8)


def write(path: Path, picture: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).convert(mode).save(path) if mode else Image.fromarray(picture).save(path)


def flat(root: Path, count: int = 1, masks: str = "labels") -> Path:
    for i in range(count):
        write(root / f"images/{i}.jpg", np.full((2, 4, 3), i, np.uint8))
        write(root / f"{masks}/{i}.png", np.array([[0, 1, 2, 255], [0, 0, 0, 0]], np.uint8))
    return root


def colored(root: Path, numbers: np.ndarray, mode: str = "RGB") -> Path:
    write(root / "images/0.png", np.zeros((*numbers.shape, 3), np.uint8))
    write(root / "labels/0.png", COLORS[numbers], mode)
    (root / "classes.csv").write_text(CLASSES)
    return root


# ---- colours ---------------------------------------------------------------------------------------------


def test_a_table_without_colours_knows_none() -> None:
    with pytest.raises(ValueError, match=r"x contains 1 colors that belong to no class: \(0, 0, 0\) \(2 pixels\)"):
        ColorTable([]).numbers(np.zeros((1, 2, 3), np.uint8), "x")


def test_a_table_is_the_inverse_of_its_colours() -> None:
    rng = np.random.default_rng(0)
    colors = np.unique(rng.integers(0, 256, (200, 3)), axis=0)
    rng.shuffle(colors)
    table = ColorTable((i, (int(r), int(g), int(b))) for i, (r, g, b) in enumerate(colors))
    numbers = rng.integers(0, len(colors), (50, 70)).astype(np.uint8)
    np.testing.assert_array_equal(table.numbers(colors[numbers].astype(np.uint8), "x"), numbers)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_in_colour(tmp_path: Path, mode: str) -> None:
    numbers = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    colored(tmp_path, numbers, mode)
    data = MaskFolder(tmp_path, classes=tmp_path / "classes.csv", ignore_ids=[3])
    assert data.labels.num_classes == 3
    np.testing.assert_array_equal(data.read(0).mask, np.where(numbers == 3, IGNORE, numbers))


def test_numbers_of_their_own_and_colours(tmp_path: Path) -> None:
    colored(tmp_path, np.array([[0, 1, 2, 3]]))
    (tmp_path / "classes.json").write_text(
        '[{"id": 9, "name": "car", "color": [64, 0, 128]}, {"id": 4, "name": "sky", "color": [128, 128, 128]},'
        ' {"id": 2, "name": "road", "color": [128, 64, 128]}]'
    )
    data = MaskFolder(tmp_path, classes=tmp_path / "classes.json", ignore_colors=[[0, 0, 0]])
    assert data.read(0).mask.tolist() == [[1, 2, 0, 255]]


def test_one_channel_and_palettes_hold_numbers_whatever_their_colours(tmp_path: Path) -> None:
    colored(tmp_path, np.zeros((2, 4), np.uint8))
    palette = Image.fromarray(np.array([[0, 1, 2, 3]] * 2, np.uint8), "P")
    palette.putpalette(COLORS[::-1].ravel().tolist())
    palette.save(tmp_path / "labels/0.png")
    data = MaskFolder(tmp_path, classes=tmp_path / "classes.csv")
    assert data.read(0).mask[0].tolist() == [0, 1, 2, 3]
    write(tmp_path / "labels/0.png", np.array([[0, 1, 2, 3]] * 2, np.uint8))
    assert data.read(0).mask[0].tolist() == [0, 1, 2, 3]


def test_faults_of_colours(tmp_path: Path) -> None:
    colored(tmp_path, np.zeros((2, 4), np.uint8))
    picture = COLORS[np.zeros((2, 4), int)]
    picture[0, 0], picture[0, 1], picture[1, 1] = (1, 2, 3), (9, 9, 9), (9, 9, 9)
    write(tmp_path / "labels/0.png", picture)
    expected = (
        r"labels.0\.png contains 2 colors that belong to no class: \(9, 9, 9\) \(2 pixels\), \(1, 2, 3\) \(1 pixel\)"
    )
    with pytest.raises(ValueError, match=expected):
        MaskFolder(tmp_path, classes=tmp_path / "classes.csv").read(0)
    with pytest.raises(ValueError, match=r"0\.png has 3 color channels.*columns r, g, b"):
        MaskFolder(tmp_path, classes=["a"]).read(0)
    (tmp_path / "classes.csv").write_text("name,r,g,b\na,1,2,3\nb,1,2,3\n")
    with pytest.raises(ValueError, match=r"the color \(1, 2, 3\), which several classes share \(ids \[0, 1\]\)"):
        MaskFolder(tmp_path, classes=tmp_path / "classes.csv").read(0)
    (tmp_path / "classes.csv").write_text("name,r,g,b\na,1,2,300\n")
    with pytest.raises(ValueError, match=r"300 is not an integer from 0 to 255"):
        MaskFolder(tmp_path, classes=tmp_path / "classes.csv")
    with pytest.raises(ValueError, match=r"ignore_colors has \[1\]: expected red, green and blue"):
        MaskFolder(tmp_path, classes=["a"], ignore_colors=[[1]])


def test_fingerprints_tell_of_colours(tmp_path: Path) -> None:
    colored(tmp_path, np.zeros((2, 4), np.uint8))
    before = MaskFolder(tmp_path, classes=tmp_path / "classes.csv").fingerprint()
    (tmp_path / "classes.csv").write_text(CLASSES.replace("64,0,128", "64,0,129"))
    assert MaskFolder(tmp_path, classes=tmp_path / "classes.csv").fingerprint() != before


# ---- folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", ["labels", "masks"])
def test_one_folder_for_all_is_divided_by_names(tmp_path: Path, masks: str) -> None:
    flat(tmp_path, 9, masks)
    train, val = (MaskFolder(tmp_path, classes=list("abc"), split=s, holdout=0.3) for s in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == [str(i) for i in range(9)]
    assert 0 < len(val) < len(train)
    assert "held out" in train.notes[-1]
    assert len(MaskFolder(tmp_path, classes=list("abc"))) == 9


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_folders_of_splits(tmp_path: Path, layout: str) -> None:
    def make(split: str, names: str) -> None:
        for name in names:
            for kind, ending in (("images", "jpg"), ("labels", "png")):
                where = tmp_path / layout.format(split=split, kind=kind)
                write(where / f"{name}.{ending}", np.zeros((2, 4, 3)[: 2 + (kind == "images")], np.uint8))

    make("train", "abcd")
    keys = {"classes": ["x"], "holdout": 0.3}
    train, val = (MaskFolder(tmp_path, split=s, **keys) for s in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == list("abcd")
    with pytest.raises(FileNotFoundError, match="folder not found"):
        MaskFolder(tmp_path, split="val", classes=["x"])
    make("val", "e")
    make("test", "f")
    found = {split: "".join(MaskFolder(tmp_path, split=split, **keys).image_ids) for split in ("train", "val", "test")}
    assert found == {"train": "abcd", "val": "e", "test": "f"}


def test_lists(tmp_path: Path) -> None:
    flat(tmp_path, 5)
    lists = {"train": "1\n0.jpg\n", "val": "2 labels/2.png\n\n"}
    for where in (tmp_path, tmp_path / "lists"):
        where.mkdir(exist_ok=True)
        for name, text in lists.items():
            (where / f"{name}.txt").write_text(text)
    for more in ({}, {"lists": tmp_path / "lists"}):
        found = [MaskFolder(tmp_path, classes=list("abc"), split=s, holdout=0.3, **more).image_ids for s in lists]
        assert [ids.tolist() for ids in found] == [["1", "0"], ["2"]]
    (tmp_path / "lists/val.txt").unlink()
    keys = {"classes": list("abc"), "lists": tmp_path / "lists"}
    train, val = (MaskFolder(tmp_path, split=split, holdout=0.3, **keys) for split in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == ["0", "1"]
    for split in ("val", "test"):
        with pytest.raises(FileNotFoundError, match=rf"{split}\.txt; there are train"):
            MaskFolder(tmp_path, split=split, **keys)
    (tmp_path / "lists/train.txt").write_text("nowhere\n")
    with pytest.raises(ValueError, match=r"train\.txt lists 1 image that cannot be found, such as nowhere"):
        MaskFolder(tmp_path, **keys)
    with pytest.raises(FileNotFoundError, match=r"folder not found: .*none, expected lists"):
        MaskFolder(tmp_path, classes=list("abc"), lists=tmp_path / "none")


def test_pascal_voc(tmp_path: Path) -> None:
    numbers = np.array([[0, 15, 255, 20]], np.uint8)
    for name in ("2007_1", "2007_2", "unlabelled"):
        write(tmp_path / f"JPEGImages/{name}.jpg", np.zeros((1, 4, 3), np.uint8))
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([7] * 768)
    (tmp_path / "SegmentationClass").mkdir()
    palette.save(tmp_path / "SegmentationClass/2007_1.png")
    colors = {label.slot: label.color for label in voc_labels().labels} | {255: (224, 224, 192)}
    write(tmp_path / "SegmentationClass/2007_2.png", np.array([[colors[n] for n in numbers[0]]], np.uint8))
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_1\n")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("2007_2\n")
    config = compose("experiment=small_segmentation", "data=voc_segmentation", f"data.root={tmp_path}")
    for split in ("train", "val"):
        source = build_source(config, split, labels=voc_labels())
        assert len(source) == 1
        np.testing.assert_array_equal(source.read(0).mask, numbers)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("unlabelled\n")
    with pytest.raises(InstantiationException, match=r"1 of 1 images .* no mask .*unlabelled\.\*"):
        build_source(config, "val")


@pytest.mark.parametrize(("masks", "listed"), [("SegmentationClass", 3), ("SegmentationClassPNG", 0)])
def test_exports_of_cvat_and_labelme(tmp_path: Path, masks: str, listed: int) -> None:
    """With the class list and the lists that they come with."""
    for i in range(5):
        write(tmp_path / f"JPEGImages/{i}.jpg", np.zeros((1, 4, 3), np.uint8))
        write(tmp_path / masks / f"{i}.png", COLORS[np.array([[0, 1, 2, 3]])])
    (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
    (tmp_path / "SegmentationClass/0.npy").touch()
    text = "# label:color_rgb:parts:actions\nsky:128,128,128::\nroad:128,64,128::\ncar:64,0,128::\nvoid:0,0,0::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    if listed:
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/default.txt").write_text("".join(f"{i}\n" for i in range(listed)))
    config = compose(
        "data=mask_folder", f"data.root={tmp_path}", f"data.classes={tmp_path}/labelmap.txt", "data.ignore_ids=[3]"
    )
    train, val = (build_source(config, split) for split in ("train", "val"))
    assert (len(train) + len(val), list(train.labels.names.values())) == (listed or 5, ["sky", "road", "car"])
    assert train.read(0).mask.tolist() == [[0, 1, 2, 255]]


def test_an_export_of_roboflow(tmp_path: Path) -> None:
    """Masks beside their images; the split for validation is called valid."""
    for name in ("train/a", "train/b", "valid/c"):
        write(tmp_path / f"{name}.jpg", np.zeros((1, 4, 3), np.uint8))
        write(tmp_path / f"{name}_mask.png", np.array([[0, 1, 2, 2]], np.uint8))
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    config = compose("data=mask_folder", f"data.root={tmp_path}", f"data.classes={tmp_path}/train/_classes.csv")
    train, val = (build_source(config, split) for split in ("train", "val"))
    assert (train.image_ids.tolist(), val.image_ids.tolist()) == (["a", "b"], ["c"])
    assert (train.labels.names[2], train.read(0).mask.tolist()) == ("dog", [[0, 1, 2, 2]])
    (tmp_path / "valid").rename(tmp_path / "later")
    train, val = (build_source(config, split) for split in ("train", "val"))
    assert sorted([*train.image_ids, *val.image_ids]) == ["a", "b"]


def test_a_list_of_cvat_alone_is_divided_for_pascal_voc(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"JPEGImages/{i}.jpg", np.zeros((1, 4, 3), np.uint8))
        write(tmp_path / f"SegmentationClass/{i}.png", np.array([[0, 1, 2, 20]], np.uint8))
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("0\n1\n2\n3\n")
    config = compose("data=voc_segmentation", f"data.root={tmp_path}", "data.holdout=0.4")
    train, val = (build_source(config, split).image_ids.tolist() for split in ("train", "val"))
    assert (sorted(train + val), bool(train), bool(val)) == (["0", "1", "2", "3"], True, True)


@pytest.mark.parametrize("folders", [["."], ["ds0"], ["train", "val"]])
def test_masks_of_supervisely(tmp_path: Path, folders: list[str]) -> None:
    """A dataset, a project of one dataset, and datasets that are splits; meta.json and masks for people beside them."""
    for folder in folders:
        for i in range(4):
            write(tmp_path / folder / f"img/{i}.jpg", np.zeros((1, 4, 3), np.uint8))
            machine = np.array([[[1] * 3, [2] * 3, [2] * 3, [0] * 3]], np.uint8)
            write(tmp_path / folder / f"masks_machine/{i}.png", machine)
            write(tmp_path / folder / f"masks_human/{i}.png", np.full((1, 4, 3), 200, np.uint8))
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "colors.json").write_text('{"sky": [1, 1, 1], "road": [2, 2, 2]}')
    config = compose(
        "data=mask_folder",
        f"data.root={tmp_path}",
        f"data.classes={tmp_path}/colors.json",
        "data.ignore_colors=[0,0,0]",
    )
    train, val = (build_source(config, split) for split in ("train", "val"))
    assert (len(train) + len(val), train.read(0).mask.tolist()) == (4 * len(folders), [[0, 1, 1, 255]])


def test_one_line_of_configuration(tmp_path: Path) -> None:
    colored(tmp_path, np.array([[0, 1, 2, 3]]))
    for i in range(1, 4):
        write(tmp_path / f"images/{i}.png", np.zeros((1, 4, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"labels/{i}.png"), COLORS[np.array([[0, 1, 2, 3]])][..., ::-1])
    config = compose("data=mask_folder", f"data.root={tmp_path}", f"data.classes={tmp_path}/classes.csv")
    train, val = (build_source(config, split) for split in ("train", "val"))
    assert (len(train) + len(val), train.labels.num_classes) == (4, 4)
    assert train.read(0).mask.tolist() == [[0, 1, 2, 3]]


# ---- names of folders and files as other tools have them ---------------------------------------------------


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{}2017", "labels/{}2017"),
        ("{}/Images", "{}/Masks"),
        ("images/{}ing", "annotations/{}ing"),  # ADE20K
        ("{}", "{}annot"),  # CamVid
        ("{}/img", "{}/masks_machine"),  # Supervisely
        ("Images/{}", "Masks/{}"),
    ],
)
def test_folders_of_splits_as_other_tools_call_them(tmp_path: Path, images: str, masks: str) -> None:
    other = "validation" if "ing" in images else "Valid" if "Images" in images else "val"
    for split, name in (("train", "a"), (other, "b")):
        folders = [text.format(split).replace("validationing", "validation") for text in (images, masks)]
        write(tmp_path / folders[0] / f"{name}.jpg", np.zeros((1, 2, 3), np.uint8))
        write(tmp_path / folders[1] / f"{name}.png", np.array([[0, 1]], np.uint8))
    for split, name in (("train", "a"), ("val", "b")):
        data = MaskFolder(tmp_path, classes=["sky", "road"], split=split, holdout=0.2)
        assert (list(data.image_ids), data.read(0).mask.tolist()) == ([name], [[0, 1]])


@pytest.mark.parametrize("folders", [("img", "masks_machine"), ("data", "labels"), ("IMAGES", "Labels")])
def test_folders_without_splits_as_other_tools_call_them(tmp_path: Path, folders: tuple[str, str]) -> None:
    write(tmp_path / folders[0] / "a.jpg", np.zeros((1, 2, 3), np.uint8))
    write(tmp_path / folders[1] / "a.jpg.png", np.array([[0, 1]], np.uint8))
    if folders == ("img", "masks_machine"):
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels/a.txt").write_text("0 .5 .5 .1 .1")  # of YOLO
    assert MaskFolder(tmp_path, classes=["sky", "road"]).read(0).mask.tolist() == [[0, 1]]


@pytest.mark.parametrize("line", ["images/1.jpg labels/1.png", "/data/mine/images/1.jpg", "images\\1.jpg", "C:\\x\\1"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_as_other_tools_write_them(tmp_path: Path, line: str, encoding: str) -> None:
    flat(tmp_path, 3)
    (tmp_path / "train.txt").write_text(f"{line}\r\n", encoding=encoding)
    assert list(MaskFolder(tmp_path, classes=["a", "b", "c"]).image_ids) == ["1"]


def test_values_of_a_lossy_mask_and_a_mask_in_the_transparency_are_told(tmp_path: Path) -> None:
    write(tmp_path / "images/0.jpg", np.zeros((4, 4, 3), np.uint8))
    write(tmp_path / "labels/0.png", np.arange(16, dtype=np.uint8).reshape(4, 4))
    message = r"the values \[2, 3, 4, 5, 6, 7, 8, 9\] and 6 more, .*Remedy: if they are traces of a lossy compression"
    with pytest.raises(ValueError, match=message):
        MaskFolder(tmp_path, classes=["sky", "road"]).read(0)
    transparent = np.zeros((4, 4, 4), np.uint8)
    transparent[:2, :, 3] = 255
    write(tmp_path / "labels/0.png", transparent)
    with pytest.raises(ValueError, match=r"0\.png differs in its transparency alone: expected classes as numbers"):
        MaskFolder(tmp_path, classes=["sky", "road"]).read(0)
