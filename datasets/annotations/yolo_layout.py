"""Finds a YOLO dataset's images and label files: by its data.yaml (as Ultralytics documents it) or by folders."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import yaml

from ...files import read_text
from ..images.files import IMAGE_ENDINGS, folder_named, list_files
from ..labels import LabelMap
from .class_names import class_list, numbered
from .faults import Fault
from .guarded_yaml import Guarded
from .near_names import endings_of, respelled
from .split_lists import named_split, split_folder

YAML = frozenset({".yaml", ".yml"})
_MAX_BYTES, _MAX_DEPTH = 256 << 10, 16  # of a data.yaml; a thousand class names take 30 kB

_OTHER_KEYS = ("path", "names", "nc", "kpt_shape", "download")  # of a data.yaml
_YAML = "tag:yaml.org,2002:"
_RESOLVED = {_YAML + kind for kind in ("bool", "null", "int", "float", "timestamp", "merge", "value")}


class _Loader(Guarded):
    max_depth = _MAX_DEPTH

    def get_single_node(self) -> yaml.Node | None:
        """The file, in which all names of classes are texts: YAML reads on, no, null and 010 as other values."""
        node = super().get_single_node()
        for key, names in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == "names" and isinstance(names, yaml.CollectionNode):
                numbers = [pair[0].value for pair in names.value] if isinstance(names, yaml.MappingNode) else []
                if twice := [str(number) for number, count in Counter(map(str, numbers)).items() if count > 1]:
                    raise ValueError(f"names has {twice[0]!r} twice")
                _keep_words(pair[1] if numbers else pair for pair in names.value)
        return node


def _keep_words(nodes: Iterable[yaml.Node]) -> None:
    for node in nodes:
        if isinstance(node, yaml.ScalarNode) and node.tag in _RESOLVED:
            node.tag = f"{_YAML}str"


class YoloLayout(NamedTuple):
    """A layout. File names are relative to `images`; label files are in the same order."""

    source: str
    images: Path
    names: list[str]
    label_files: list[Path]
    classes: LabelMap  # numbered one higher than on disk: as in COCO, the first is 1
    whole: bool  # there is no validation split: these are all the images
    keypoints: int | None  # how many numbers follow a box, if kpt_shape says so
    notes: list[str]
    faults: list[Fault]
    elsewhere: bool  # the user chose the label files' folder: those next to images are not meant


def locate_yolo(
    root: str | Path,
    *,
    split: str,
    folder: str | Path | None = None,
    annotations: str | Path | None = None,
    classes: Any = None,
) -> YoloLayout:
    """A data.yaml, a folder that has one, or a folder of images and label files.

    Raises:
        FileNotFoundError, ValueError: what was expected, and where.
    """
    path = Path(root)
    if path.is_dir() and annotations is None:
        found = (
            [path / "data.yaml"]
            if (path / "data.yaml").is_file()
            else [path / name for name in list_files(path, YAML, deep=False)]
        )
        if len(found) > 1:
            raise ValueError(f"{path} contains {', '.join(p.name for p in found)}: set root to one of them")
        path = found[0] if found else path
    if path.is_file():
        if annotations is not None or classes is not None:
            raise ValueError(f"{path} defines the label files and the classes: drop annotations and classes")
        return _by_yaml(path, split, None if folder is None else Path(folder))
    if not path.is_dir():
        raise FileNotFoundError(f"not found: {path}, expected a data.yaml, or a folder of images and label files")
    if folder is not None:
        raise ValueError(f"folder={folder} replaces a data.yaml's path, but {path} has no data.yaml")
    return _by_folders(path, split, None if annotations is None else Path(annotations), classes)


# ---- by data.yaml ----------------------------------------------------------------------------------------


def _by_yaml(path: Path, split: str, folder: Path | None) -> YoloLayout:
    data = load_yaml(path)
    classes = _classes(data, path)
    root = _root(data, path, folder)
    val, stated = _entries(data, "val", path), _entries(data, split, path)
    has_val = val[1] is not None
    key, entries = stated if has_val or split not in ("train", "val") else _entries(data, "train", path)
    if entries is None:
        raise ValueError(f"{path} has no {key!r}: expected a folder of images, a list of folders, or a .txt of images")
    entries, notes = _listed(entries, path, key), []
    names = list(dict.fromkeys(name for entry in entries for name in _images(root, entry, path, key)))
    if not names:
        raise FileNotFoundError(f"{path}: {key} is {', '.join(entries)}, but there are no images")
    faults: list[Fault] = []
    names = respelled(names, root, source=str(path), report=faults.append)
    labels = [root / label_name(name) for name in names]
    # Names are relative to the split's folder, if it is one.
    below = _relative(_place(root, entries[0]), root) if len(entries) == 1 else "."
    below = "" if below == "." or not (root / below).is_dir() else f"{below}/"
    for entry in entries:
        if is_absolute(entry) and (place := _place(root, entry)) != Path(entry):
            notes.append(f"{path}: {key} is {entry!r}, which does not exist here: {place} is used")
    whole = not has_val and split in ("train", "val")
    names = [name.removeprefix(below) for name in names]
    keypoints = _keypoints(data, path)
    return YoloLayout(str(path), root / below, names, labels, classes, whole, keypoints, notes, faults, False)


def _keypoints(data: Mapping[str, Any], path: Path) -> int | None:
    """How many numbers follow a box, by kpt_shape: [points, 2 or 3 numbers each]; None without it."""
    shape = data.get("kpt_shape")
    if shape is None:
        return None
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
        and shape[0] > 0 and shape[1] in (2, 3)
    ):  # fmt: skip
        raise ValueError(f"{path}: kpt_shape is {shape!r}: expected [points, 2] or [points, 3]")
    return shape[0] * shape[1]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a data.yaml. References (`&a`, `*a`) are rejected, because they can expand without limit.

    Raises:
        ValueError: it is not a data.yaml.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_BYTES >> 10} kB: expected a data.yaml")
    try:
        data = yaml.load(read_text(path), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a data.yaml: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a data.yaml: expected the keys path, train, val, names")
    return data


def _entries(data: dict[str, Any], split: str, path: Path) -> tuple[str, Any]:
    """The key that a yaml has for a split, and its value; None if it has none."""
    stated = {str(key): value for key, value in data.items() if value not in (None, "", []) and key not in _OTHER_KEYS}
    key = named_split(split, stated, where=path)
    if key is None and split == "train":  # one list alone, such as CVAT's default.txt, contains all images
        test = named_split("test", stated, where=path)
        alone = [key for key, value in stated.items() if str(value).endswith(".txt") and key != test]
        key = alone[0] if len(alone) == 1 else None
    return (key, stated[key]) if key else (split, None)


def _classes(data: dict[str, Any], path: Path) -> LabelMap:
    names, count = data.get("names"), data.get("nc")
    count = _number(count)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        names = {_number(key): name for key, name in names.items()}
    if names is None and type(count) is int and 0 < count <= 10_000:
        names = {number: f"class {number}" for number in range(count)}
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{path} has no names: expected a list of classes, or a mapping from 0, 1, ... to class names")
    if wrong := [
        key for key, name in names.items() if type(key) is not int or key < 0 or not isinstance(name, str) or not name
    ]:
        raise ValueError(f"{path}: names has {wrong[0]!r}: expected class numbers from 0, each with a name")
    if count is not None and count != len(names):
        raise ValueError(f"{path}: nc is {count!r}, but there are {len(names)} names: correct one of them")
    return numbered({number + 1: name for number, name in names.items()}, str(path))


def _number(value: Any) -> Any:
    """A number that was written in quotes."""
    return int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() else value


def _root(data: dict[str, Any], path: Path, folder: Path | None) -> Path:
    """The folder that the other paths are relative to.

    `path` is taken relative to the yaml first, as Ultralytics does. A yaml may only point below its
    own folder; for data elsewhere the user sets `folder`.
    """
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"folder not found: {folder}, expected the images that {path} refers to")
        return folder
    stated, home = data.get("path"), path.parent
    if stated is not None and not isinstance(stated, str):
        raise ValueError(f"{path}: path is {stated!r}: expected a folder")
    if not stated:
        return home
    there = home / stated
    if _below(there, home):
        if there.is_dir():
            return there
    elif there.is_dir() and there.samefile(home):
        return home
    # From another machine, or relative to Ultralytics' datasets folder: the yaml usually lies next to its images.
    entries = [_entries(data, split, path)[1] for split in ("train", "val")]
    if any(_place(home, entry).exists() for texts in map(_texts, entries) for entry in texts):
        return home
    outside = "" if _below(there, home) else " outside the yaml's own folder, which is not allowed"
    raise FileNotFoundError(
        f"{path}: path is {stated!r}, a folder{outside or ' that does not exist'}. Remedy: move the yaml to "
        "its images, or set their location with folder (data.folder=FOLDER)"
    )


def _below(path: Path, root: Path) -> bool:
    """Judged by names alone: a link below the root may point anywhere its owner wants."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _texts(entries: Any) -> list[str]:
    return [entry for entry in (entries if isinstance(entries, list) else [entries]) if isinstance(entry, str)]


def _listed(entries: Any, path: Path, key: str) -> list[str]:
    texts = _texts(entries)
    if not texts or (isinstance(entries, list) and len(texts) != len(entries)):
        raise ValueError(f"{path}: {key} is {str(entries)[:200]}: expected a folder, a list of folders, or a .txt file")
    return texts


def _place(root: Path, entry: str) -> Path:
    """Where an entry is, or would be: a path of Windows, or one that some exports write, may mean one below the root.

    That is `../train/images` of a yaml in the data's own folder, and the absolute path of another machine.
    """
    where = root / entry
    if where.exists():
        outside = root / entry.removeprefix("../")
        return outside if not _below(where, root) and entry.startswith("../") and outside.exists() else where
    parts = PureWindowsPath(entry).parts  # splits at both kinds of slashes
    absolute = is_absolute(entry)
    starts = range(1, len(parts)) if absolute else [parts[:1] == ("..",)]
    places = (root.joinpath(*parts[start:]) for start in starts)
    return next((place for place in places if place.exists() and _below(place, root)), where)


def is_absolute(entry: str) -> bool:
    """On any system."""
    return bool(PureWindowsPath(entry).anchor)


def _relative(where: Path, root: Path) -> str:
    return os.path.relpath(os.path.abspath(where), os.path.abspath(root)).replace(os.sep, "/")


def _images(root: Path, entry: str, path: Path, key: str) -> list[str]:
    """Names relative to the root, for one entry of a split."""
    where = _place(root, entry)
    if not _below(where, root):
        raise ValueError(
            f"{path}: {key} is {entry!r}, which is outside {root}. Remedy: use a path below it"
            f"{' and relative to it' if is_absolute(entry) else ', or set another base folder (data.folder=FOLDER)'}"
        )
    below = _relative(where, root)
    if where.is_dir():
        return [name if below == "." else f"{below}/{name}" for name in list_files(where, IMAGE_ENDINGS)]
    if not where.is_file() or where.suffix.lower() != ".txt":
        raise FileNotFoundError(
            f"{path}: {key} is {entry!r}, but {where} is neither a folder nor a .txt list of images"
        )
    return list(_from_list(where, root))


def _from_list(path: Path, root: Path) -> Iterable[str]:
    """Images of a list, relative to the list's folder, or else to the root."""
    for line in read_text(path).splitlines():
        if not (text := line.strip().replace("\\", "/")):
            continue
        beside = path.parent / text
        where = beside if text.startswith("./") or beside.exists() else root / text
        if not _below(where, root):
            raise ValueError(f"{path} lists {text!r}, which is outside {root}: expected paths below it")
        yield _relative(where, root)


def label_name(image: str) -> str:
    """The label file of an image: the last folder `images` of its path becomes `labels`, the extension .txt."""
    at = f"/{image}".rfind("/images/")
    at = f"/{image}".lower().rfind("/images/") if at < 0 else at  # `Images`, where there is no `images`
    before, after = f"/{image}"[:at], f"/{image}"[at + len("/images/") :]
    stem = (f"{before}/labels/{after}" if at >= 0 else f"/{image}").rpartition(".")[0]
    return f"{stem[1:]}.txt"


# ---- by folders ------------------------------------------------------------------------------------------


def _by_folders(root: Path, split: str, annotations: Path | None, classes: Any) -> YoloLayout:
    """`images` and `labels` below the root, with or without SPLIT in or around them; or all in one folder."""
    above, named = root / "images", folder_named(root, "images") or root / "images"

    def folder_of(split: str) -> Path | None:
        around = split_folder(root, split)
        return split_folder(named, split) or ((folder_named(around, "images") or around) if around else None)

    has_val = annotations is None and folder_of("val") is not None
    images: Path | None = above if above.is_dir() else root
    if has_val or split not in ("train", "val"):
        images = folder_of(split) or (None if has_val else images)
    elif annotations is None and folder_of("test"):  # whose images are not for training
        images = folder_of("train") or images
    if images is None:
        raise FileNotFoundError(
            f"no folder for split {split!r} below {root}: expected {above / split} or {root / split}"
        )
    below = "" if images == root else images.relative_to(root).as_posix() + "/"
    names = [below + name for name in list_files(images, IMAGE_ENDINGS)]
    if annotations is None:
        labels = [root / label_name(name) for name in names]
    else:
        labels = [_label_below(annotations, name.removeprefix(below)) for name in names]
    lists = [root / "classes.txt", *(label.parent / "classes.txt" for label in labels[:1]), root / "obj.names"]
    beside = next((path for path in lists if path.is_file()), lists[0])
    if classes is None and not beside.is_file():
        raise FileNotFoundError(f"{root} has neither data.yaml nor classes.txt: set classes, a list of names")
    found = class_list(classes, beside, [], source=str(root))
    names = [name.removeprefix(below) for name in names]
    whole = not has_val and split in ("train", "val")
    return YoloLayout(str(root), images, names, labels, found, whole, None, [], [], annotations is not None)


def _label_below(folder: Path, image: str) -> Path:
    """The label file of an image in a folder that may lack the first folders of its name."""
    places = [folder / f"{end.rpartition('.')[0]}.txt" for end in endings_of(image)]
    return next((place for place in places if place.is_file()), places[0])
