"""PASCAL VOC annotations: the devkit's layout, or any folder of photographs and XML files (labelImg and others)."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..words import counted
from .annotations.boxes import BoxSource, FoundBoxes, TableBuilder, is_inside
from .annotations.class_names import class_list, known_names
from .annotations.faults import Fault, Report, Strict, Tell, tell_left_out
from .annotations.holdout import check_holdout, cut
from .annotations.near_names import endings_of, near_names, stem_of, with_and_without
from .annotations.split_lists import list_for, read_list, split_folder
from .annotations.voc_xml import VocXml, parse_voc
from .annotations.watched import watched
from .images.files import IMAGE_ENDINGS, find_files, folder_named, image_size, list_files
from .labels import LabelMap

XML = frozenset({".xml"})
_IMAGES, _ANNOTATIONS = ("images", "JPEGImages"), ("annotations", "labels", "xml", "xmls")  # in any case
DIFFICULT = ("crowd", "object", "drop")


class Entry(NamedTuple):
    """An image, relative to the image folder, and its XML file."""

    image: str
    xml: Path


class VocLayout(NamedTuple):
    """The layout found below a root."""

    images: Path  # file names are relative to this folder
    entries: list[Entry]
    one_based: bool  # coordinates start at 1, as in the devkit
    whole: bool  # these are all the images: there are no splits
    xmls: list[Path]  # of all splits, so that the class list does not depend on the split
    notes: list[str]
    faults: list[Fault]


class VocDetection(BoxSource):
    """Images and boxes from XML files.

    Either the devkit's layout (`VOCdevkit`, or one of its year folders: JPEGImages, Annotations,
    ImageSets/Main/SPLIT.txt; `years` chooses some of several), or a folder with photographs and XML files side by side
    or in two subfolders; `annotations` is the XML folder if it is elsewhere. Without split lists, `holdout` (a
    fraction, such as 0.2) is held out for `val`.

    Args:
        classes: names, or a file of them; without it ROOT/classes.txt, or else every class that occurs, sorted.
        labels: the slots of another dataset or a checkpoint; classes are matched by name.
        difficult: what objects with that flag become: `crowd` regions, because VOC's evaluation counts such an
            object neither as missed nor as found; an ordinary `object`; or `drop`.
        one_based: whether a box's corners are pixel numbers starting at 1, both inside the box, as in VOC's own
            files; the image's left pixel column is then xmin = 1 and a full image has xmax = W. Otherwise they are
            distances from the image's left and top edge. By default true for the devkit's layout, as detectron2
            reads it, false for a plain folder, as labelImg writes it.
        report: gets every fault; None rejects errors, and turns warnings into notes.

    Image ids start at 1, in the list's order.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        annotations: str | Path | None = None,
        years: Sequence[int | str] | None = None,
        classes: Sequence[str] | str | Path | None = None,
        labels: LabelMap | None = None,
        difficult: str = "crowd",
        one_based: bool | None = None,
        holdout: float | None = None,
        limit: int | None = None,
        with_annotations_only: bool = False,
        report: Report | None = None,
    ) -> None:
        check_holdout(holdout)
        if difficult not in DIFFICULT:
            raise ValueError(f"difficult={difficult}: choose one of {', '.join(DIFFICULT)}")
        strict = Strict()
        tell = report or strict
        layout = locate_voc(root, split=split, annotations=annotations, years=years)
        for fault in layout.faults:
            tell(fault)
        beside = Path(root) / "classes.txt"
        parsed = _parse_all(layout, classes is None and labels is None and not beside.is_file(), tell)
        names = [thing.name for xml in parsed.values() for thing in xml.objects]
        if not names and (wrong := [f"{path}: {xml.problems[0]}" for path, xml in parsed.items() if xml.problems]):
            raise ValueError(
                f"{wrong[0]}; {len(wrong)} of {len(parsed)} XML files are like this, and no object is whole"
            )
        labels = labels or class_list(classes, beside, names, source=str(root))
        shift = layout.one_based if one_based is None else one_based
        reader = _Reader(layout.images, TableBuilder(str(root), labels), labels, difficult, shift, tell)
        for entry in layout.entries:
            if entry.xml in parsed:
                reader.add(entry, parsed[entry.xml])
        found = FoundBoxes(reader.builder.table(), layout.images, [*layout.notes, *strict.notes()])
        found = cut(found, split, holdout, root=root) if layout.whole else found
        super().__init__(found, limit=limit, with_annotations_only=with_annotations_only, report=report)


# ---- finding the files ---------------------------------------------------------------------------------


def locate_voc(
    root: str | Path,
    *,
    split: str,
    annotations: str | Path | None = None,
    years: Sequence[int | str] | None = None,
) -> VocLayout:
    """The images and XML files of a split.

    Raises:
        FileNotFoundError: no known layout, or other splits have lists but not this one.
        ValueError: `years` or `annotations` for a layout that does not use them.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder not found: {root}, expected VOCdevkit, one of its year folders, or photographs and XML files"
        )
    root = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    if annotations is not None and ((root / "ImageSets" / "Main").is_dir() or list(root.glob("VOC*/JPEGImages"))):
        raise ValueError(f"annotations={annotations} is only for a plain folder: {root} has its own folder Annotations")
    folders = sorted(path for path in root.glob("VOC*") if (path / "JPEGImages").is_dir())
    if folders and not (root / "JPEGImages").is_dir():
        return _several(root, _chosen(folders, years, root), split)
    if years is not None:
        raise ValueError(f"years={list(years)} selects folders such as VOC2007 and VOC2012, but {root} has none")
    if _lists(root):
        return _devkit(root, split)
    divided = _divided(root, split) if annotations is None else None
    return divided or _plain(root, Path(annotations) if annotations else None)


def _chosen(folders: list[Path], years: Sequence[int | str] | None, root: Path) -> list[Path]:
    wanted = None if years is None else {str(year).removeprefix("VOC") for year in years}
    chosen = [path for path in folders if wanted is None or path.name.removeprefix("VOC") in wanted]
    if not chosen or (wanted is not None and len(chosen) != len(wanted)):
        raise FileNotFoundError(f"years={list(years or [])}: {root} has {', '.join(path.name for path in folders)}")
    return chosen


def _several(root: Path, folders: list[Path], split: str) -> VocLayout:
    # If none has a list, the first one's error.
    having = [folder for folder in folders if split in _lists(folder)] or folders
    parts = [_devkit(folder, split) for folder in having]
    entries = [
        Entry(f"{folder.name}/JPEGImages/{entry.image}", entry.xml)
        for folder, part in zip(having, parts, strict=True)
        for entry in part.entries
    ]
    xmls = [path for part in parts for path in part.xmls]
    faults = [fault for part in parts for fault in part.faults]
    return VocLayout(root, entries, True, all(part.whole for part in parts), xmls, [], faults)


def _lists(year: Path) -> list[str]:
    """The splits that have a list. Main also contains lists for each class, CLASS_SPLIT.txt."""
    found = [stem_of(name) for name in list_files(year / "ImageSets" / "Main", frozenset({".txt"}), deep=False)]
    return [name for name in found if "_" not in name or name.rpartition("_")[2] not in found]


def _devkit(root: Path, split: str) -> VocLayout:
    images, xmls, lists = root / "JPEGImages", root / "Annotations", _lists(root)
    listed, cut_off = list_for(split, lists, may_cut=True, where=root / "ImageSets" / "Main")
    path = root / "ImageSets" / "Main" / f"{listed}.txt"
    if listed not in lists:
        raise FileNotFoundError(f"list of images not found: {path}; there are lists for {', '.join(lists)}")
    found = find_files(images, IMAGE_ENDINGS)
    every, faults = list_files(xmls, XML), list[Fault]()
    tell_left_out(found, faults.append)
    listed_images = _listed(path, images, found.names)
    lacking = [image for name, image in listed_images.items() if not (xmls / f"{name}.xml").is_file()]
    known = {stem_of(name) for name in found.names}
    near = _near(lacking, [xml for xml in every if stem_of(xml) not in known], xmls, faults) if lacking else {}
    entries = [Entry(image, xmls / near.get(image, f"{name}.xml")) for name, image in listed_images.items()]
    return VocLayout(images, entries, True, cut_off, [xmls / name for name in every], [], faults)


def _near(images: Sequence[str], xmls: Sequence[str], folder: Path, faults: list[Fault]) -> dict[str, str]:
    """The XML file of each image that has one in another spelling; each becomes a fault."""
    pairs = near_names({image: with_and_without(image) for image in images}, {xml: stem_of(xml) for xml in xmls}).pairs
    for image, xml in pairs.items():
        message = f"{folder / xml} is read as the XML file of {image}, although its name differs"
        faults.append(Fault("near_name", str(folder / xml), message, image=image))
    return pairs


def _listed(path: Path, images: Path, pictures: Sequence[str]) -> dict[str, str]:
    """The pictures of a list by their names without extension; its lines may have an extension and a folder."""
    by_line = {name: name for name in pictures} | {name.rpartition(".")[0]: name for name in pictures}
    files, found = set(pictures), dict[str, str]()
    for line in read_list(path, by_line):
        usual = line.replace("\\", "/").removeprefix("./").removeprefix(f"{images.name}/")
        name = next((end for end in endings_of(line) if end in by_line), usual)
        if not is_inside(name):
            raise ValueError(f"{path} lists {line!r}: expected names of images without '..'")
        stem, _, ending = name.rpartition(".")
        is_file = name in files or (name not in by_line and f".{ending.lower()}" in IMAGE_ENDINGS | XML)
        stem = stem if is_file and stem else name
        found.setdefault(stem, by_line.get(name) or by_line.get(stem) or f"{stem}.jpg")
    return found


def _divided(root: Path, split: str) -> VocLayout | None:
    """A folder for each split, as Roboflow exports them, or one in each of the folders of images and XML files.

    None if there are none for training and validation.
    """
    images, xmls = folder_named(root, *_IMAGES), folder_named(root, *_ANNOTATIONS)

    def part(split: str) -> VocLayout | None:
        if (folder := split_folder(root, split)) and list_files(folder, XML):
            return _plain(folder, None)
        folder = split_folder(images, split) if images else None
        return _plain(folder, xmls / folder.name) if folder and xmls and (xmls / folder.name).is_dir() else None

    train, val, own = part("train"), part("val"), part(split)
    if train is None or val is None:
        return None
    if own is None:
        raise FileNotFoundError(f"no folder for split {split!r} below {root}: expected {root / split}")
    return own._replace(whole=False, xmls=[*train.xmls, *val.xmls])


def _plain(root: Path, annotations: Path | None) -> VocLayout:
    """Photographs and XML files in one folder or two; a photograph without one is not annotated, and is skipped."""
    images = folder_named(root, *_IMAGES) or root
    folders = (folder_named(root, name) for name in _ANNOTATIONS)
    if annotations is None:
        annotations = next((folder for folder in folders if folder and list_files(folder, XML)), images)
    if not annotations.is_dir():
        raise FileNotFoundError(f"folder not found: {annotations}, expected the XML files of {images}")
    xmls, by_stem = list_files(annotations, XML), {}
    if not xmls:
        raise FileNotFoundError(
            f"no XML files in {annotations}: expected VOCdevkit, one of its year folders, or photographs with "
            "one XML file each"
        )
    faults: list[Fault] = []
    found = find_files(images, IMAGE_ENDINGS)
    tell_left_out(found, faults.append)
    for name in found.names:
        by_stem.setdefault(stem_of(name), name)
    own = {stem_of(name) for name in xmls}
    lacking = [name for stem, name in by_stem.items() if stem not in own]
    near = _near(lacking, [name for name in xmls if stem_of(name) not in by_stem], annotations, faults)
    of_xml = {xml: image for image, xml in near.items()}
    entries = [
        Entry(of_xml.get(name) or by_stem.get(stem_of(name), f"{stem_of(name)}.jpg"), annotations / name)
        for name in xmls
    ]
    bare = sorted(set(by_stem) - own - {stem_of(image) for image in near})
    told = counted(len(bare), "photograph has", "photographs have")
    notes = [f"{told} no XML file, such as {bare[0]}; skipped as not annotated"] if bare else []
    return VocLayout(images, entries, False, True, [entry.xml for entry in entries], notes, faults)


# ---- reading ---------------------------------------------------------------------------------------------


def _parse_all(layout: VocLayout, other_splits: bool, report: Report) -> dict[Path, VocXml]:
    """The XML files of the split, and of the others if the classes have to be collected."""
    own = [entry.xml for entry in layout.entries]
    parsed: dict[Path, VocXml] = {}
    paths: list[Path] = list(dict.fromkeys(own + layout.xmls if other_splits else own))
    for path in watched(paths, "XML files read"):
        try:
            parsed[path] = parse_voc(path)
        except FileNotFoundError:
            message = f"annotation file not found: {path}. An image without objects needs an XML file without objects"
            report(Fault("missing_annotation", str(path), message, image=path.stem))
        except ValueError as error:
            report(Fault("format", str(path), str(error), image=path.stem))
    return parsed


def _composed(name: str) -> str:
    """The same text for both forms of accents: macOS writes them apart."""
    return unicodedata.normalize("NFC", name)


class _Reader:
    def __init__(
        self, images: Path, builder: TableBuilder, labels: LabelMap, difficult: str, one_based: bool, report: Report
    ) -> None:
        self._images, self.builder, self._difficult, self._report = images, builder, difficult, report
        self._slots, self._known = {_composed(name): slot for slot, name in labels.names.items()}, known_names(labels)
        self._shift = 1.0 if one_based else 0.0
        self._files: dict[str, Path] = {}

    def add(self, entry: Entry, xml: VocXml) -> None:
        name = self._image_name(entry, xml)
        tell = self._teller(entry, name)
        if name in self._files:
            tell(
                "clashing_ids",
                f"annotates the image {name}, which {self._files[name]} also annotates: keep one XML file per image",
            )
            return
        size = xml.size or self._header(name, tell)
        if size is None:
            return
        for problem in xml.problems:
            tell("format", problem)
        self._files[name] = entry.xml
        self.builder.add_image(name, size)
        for thing in xml.objects:
            slot = self._slots.get(_composed(thing.name))
            if slot is None:
                remedy = f"the classes are {self._known}. Remedy: complete the class list"
                tell("unknown_category", f"has an object of the unknown class {thing.name!r}: {remedy}")
            elif not (thing.difficult and self._difficult == "drop"):
                self._object(thing.corners, slot, thing.difficult, tell)

    def _object(self, corners: tuple[float, ...], slot: int, difficult: bool, tell: Tell) -> None:
        xmin, ymin, xmax, ymax = corners
        if self._shift and (xmin <= 0 or ymin <= 0):
            remedy = "if these files start at 0, set one_based=false (data.one_based=false)"
            tell("zero_based", f"has the corner {xmin:g}, {ymin:g}, but VOC's pixel numbers start at 1: {remedy}")
        left, top = xmin - self._shift, ymin - self._shift
        crowd = difficult and self._difficult == "crowd"
        self.builder.add_box(slot, (left, top, xmax - left, ymax - top), crowd=crowd)

    def _teller(self, entry: Entry, image: str) -> Tell:
        xml = str(entry.xml)
        return lambda kind, problem: self._report(Fault(kind, xml, f"{xml}: {problem}", image=image))

    def _image_name(self, entry: Entry, xml: VocXml) -> str:
        """The XML's own name determines the image, as in the devkit; its <filename> is often another machine's path."""
        folder, _, own = entry.image.rpartition("/")
        stated = xml.filename.replace("\\", "/").rpartition("/")[2]
        beside = f"{folder}/{stated}" if folder else stated
        usable = bool(stated) and is_inside(stated) and (self._images / beside).is_file()
        if usable and stated.rpartition(".")[0] == own.rpartition(".")[0]:
            return beside  # of a.jpg and a.png, the one it names
        if not (self._images / entry.image).is_file():
            return beside if usable else entry.image
        if usable:
            tell, remedy = self._teller(entry, entry.image), "its file name is used; rename it if that is wrong"
            tell("other_filename", f"states {stated}, an existing image, but has the file name of {own}: {remedy}")
        return entry.image

    def _header(self, name: str, tell: Tell) -> tuple[int, int] | None:
        try:
            return image_size(self._images / name)
        except (OSError, ValueError) as error:
            tell("undecodable", f"has no <size>, and the image's size cannot be read: {error}")
            return None
