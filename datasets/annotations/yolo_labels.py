"""Pairs the images of a YOLO dataset with their label files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...files import read_text
from ..images.files import IMAGE_ENDINGS, Found, find_files
from .faults import Fault, Report, tell_left_out
from .near_names import near_names, stem_of, with_and_without
from .yolo_layout import YoloLayout

LABELS = frozenset({".txt"})


class _Folders(NamedTuple):
    images: Path
    labels: Path


def pair_labels(layout: YoloLayout, report: Report) -> tuple[list[Path | None], list[str]]:
    """Each image's label file, None for an image without; and the label files that belong to no image.

    A file whose name is the image's in another spelling is read if it can belong to no other image, also one next to
    the image where there is a folder `labels`. It is reported, as is every label file that is not read.
    """
    paths: list[Path | None] = [path if path.is_file() else None for path in layout.label_files]
    rows = {str(layout.images / name): row for row, name in enumerate(layout.names)}
    spare: list[str] = []
    for folders in _tops(layout):
        pairs, others = _near(folders, layout.elsewhere, report)
        for image, label in pairs.items():
            if (row := rows.get(image)) is not None and paths[row] is None:
                paths[row] = Path(label)
                message = f"{label} is read as the label file of {layout.names[row]}: no {layout.label_files[row]}"
                report(Fault("near_name", label, message, image=layout.names[row]))
        for label, images in others.items():
            spare.append(label)
            near = f", but may mean {' or '.join(images)}" if images else ""
            report(Fault("spare_annotation", label, f"{label} belongs to no image{near}: it is not read"))
    return paths, spare


def _tops(layout: YoloLayout) -> list[_Folders]:
    """The folders of images and those of their label files; none is below another."""
    pairs = {
        _Folders((layout.images / name).parent, label.parent)
        for name, label in zip(layout.names, layout.label_files, strict=True)
    }
    images = {pair.images for pair in pairs}
    return sorted(pair for pair in pairs if not images.intersection(pair.images.parents))


def _near(folders: _Folders, elsewhere: bool, report: Report) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Images with a label file of another spelling, and label files of no image with the images they may mean."""
    images = find_files(folders.images, IMAGE_ENDINGS)
    tell_left_out(images, report)
    stems, owned = {stem_of(name) for name in images.names}, set[str]()
    unclaimed: dict[str, str] = {}
    for found in _label_files(folders, elsewhere, report):
        if found.folder == folders.labels:
            owned = {stem_of(name) for name in found.names if name.endswith(".txt")} & stems
            names = [name for name in found.names if not (name.endswith(".txt") and stem_of(name) in owned)]
        else:
            names = [name for name in found.names if not (found.folder / name).is_relative_to(folders.labels)]
        unclaimed |= {str(found.folder / name): stem_of(name) for name in names if _has_boxes(found.folder / name)}
    wanted = {str(folders.images / name): with_and_without(name) for name in images.names if stem_of(name) not in owned}
    return near_names(wanted, unclaimed)


def _label_files(folders: _Folders, elsewhere: bool, report: Report) -> Iterator[Found]:
    """Those in the folder of labels, or one of its name in other case; and those next to the images."""
    if folders.labels == folders.images:
        yield find_files(folders.images, LABELS)
        return
    if not elsewhere:
        yield find_files(folders.images, LABELS)
    for folder in _with_other_case(folders.labels):
        found = find_files(folder, LABELS)
        tell_left_out(found, report)
        yield found


def _with_other_case(folder: Path) -> list[Path]:
    """The folder, and those beside it that are called so in other case."""
    same = [folder] if folder.is_dir() else []
    try:
        beside = sorted(path for path in folder.parent.iterdir() if path.name.lower() == folder.name.lower())
    except OSError:
        return same
    return same + [path for path in beside if path.is_dir() and not (same and path.samefile(folder))]


def _has_boxes(path: Path) -> bool:
    """Whether a text file begins like a label file (or is empty), unlike class lists, lists of images and notes."""
    try:
        words = read_text(path, first=1000).splitlines()[:1]
        words = words[0].split() if words else []
        return len([float(word) for word in words]) not in (1, 2)
    except (OSError, ValueError):
        return False
