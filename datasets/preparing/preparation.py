"""Turns a public dataset's archives into the layout that its data group reads, in repeatable steps."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...files import remove_leftovers, whole_file
from ..labels import VOC_CLASSES
from .archives import CHUNK, ArchiveError, Member, list_members, safe_name, unpack
from .public_sets import Part, PublicSet, count_content
from .targets import Advance, Target, link_or_copy

RECORD = ".prepared.json"
_VERSION = 1


@dataclass
class Record:
    """The complete archives in an output folder, with the paths and sizes of their files, in `.prepared.json`."""

    data: str  # the dataset's name
    parts: dict[str, dict[str, int]] = field(default_factory=dict)

    @staticmethod
    def load(output: Path, data: str) -> "Record":
        """The folder's record; an empty one if there is none.

        Raises:
            ValueError: it is not a record, or another dataset's.
        """
        path = output / RECORD
        if not path.is_file():
            return Record(data)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            parts = {
                str(file): {safe_name(path): int(size) for path, size in files.items()}
                for file, files in content["parts"].items()
            }
            found, version = str(content["data"]), content["version"]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a record of pocketvision prepare ({error}): remove it and run the command again"
            ) from error
        if found != data or version != _VERSION:
            raise ValueError(f"{output} contains {found} (record {version}), not {data}: choose another output")
        return Record(data, parts)

    def save(self, output: Path) -> None:
        content = {"version": _VERSION, "data": self.data, "parts": self.parts}
        with whole_file(output / RECORD) as unfinished:
            unfinished.write_text(json.dumps(content, indent=0), encoding="utf-8")

    def lost(self, output: Path, file: str) -> list[str]:
        """Files of a part that are missing or have another size."""
        return [path for path, size in self.parts[file].items() if _size(output / path) != size]

    def has(self, output: Path, file: str) -> bool:
        """Whether a part is complete."""
        return file in self.parts and not self.lost(output, file)


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


@dataclass(frozen=True)
class Recognised:
    """An archive, and which part of the dataset it is."""

    path: Path
    part: Part
    members: list[Member]

    @property
    def targets(self) -> dict[int, Target]:
        placed = {member.index: self.part.place(member.name) for member in self.members}
        return {index: target for index, target in placed.items() if target}


# ---- before anything is written --------------------------------------------------------------------------


def recognise(path: Path, data: PublicSet) -> Recognised:
    """Which part an archive is, by its content; its name does not matter.

    Raises:
        ArchiveError: it is corrupt, or does not belong to this dataset.
    """
    members = list_members(path)
    for part in data.parts:
        if any(re.fullmatch(part.mark, member.name) for member in members):
            return Recognised(path, part, members)
    some = ", ".join(member.name for member in members[:3]) or "nothing"
    raise ArchiveError(
        f"{path} is not one of {data.name}'s archives ({', '.join(part.file for part in data.parts)}): it "
        f"contains {some}{', ...' if len(members) > 3 else ''}"
    )


def check_size(found: Recognised) -> None:
    """Raise ArchiveError if the size is known and differs."""
    size, part = found.path.stat().st_size, found.part
    if part.size not in (None, size):
        cut = size < part.size
        raise ArchiveError(
            f"{found.path} has {size:,} bytes, but {part.file} has {part.size:,}: "
            f"{'it is truncated, finish the download' if cut else 'it is another file'}"
            " (or, if it was repacked, set hashes=false: then its files are only counted)"
        )


def check_counts(found: Recognised) -> None:
    """Raise ArchiveError if a target folder gets another number of files than expected."""
    paths = [target.path for target in found.targets.values()]
    for pattern, number in found.part.counts.items():
        fitting = re.compile(pattern)
        count = sum(bool(fitting.fullmatch(path)) for path in paths)
        if count != number:
            raise ArchiveError(
                f"{found.path} has {count:,} of {_plain(pattern)}, but {found.part.file} has {number:,}: "
                "it is incomplete, or another version"
            )


def check_hash(found: Recognised, *, advance: Advance = lambda _: None) -> None:
    """Raise ArchiveError if the MD5 differs."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(found.path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            advance(len(piece))
    if digest.hexdigest() != found.part.md5:
        raise ArchiveError(
            f"{found.path} has the MD5 {digest.hexdigest()}, but {found.part.file} has {found.part.md5}: "
            "download it again (or, if it was repacked, set hashes=false: then its files are only counted)"
        )


def check_mixture(data: PublicSet, files: Sequence[str]) -> None:
    """Raise ValueError if parts of two copies of a dataset would be mixed: their splits differ."""
    if data.one_way and not any(set(files) <= set(way) for way in data.ways):
        raise ValueError(
            f"{' and '.join(files)} are different copies of {data.name}: use only one of them, or choose another output"
        )


def _plain(pattern: str) -> str:
    return re.sub(r"\\(.)", r"\1", pattern).replace(".*", "*")


# ---- writing ---------------------------------------------------------------------------------------------


def prepare_part(found: Recognised, output: Path, record: Record, *, advance: Advance = lambda _: None) -> None:
    """Unpack a part and add it to the record when it is complete.

    Raises:
        ArchiveError: it is corrupt, or its files do not have the expected content.
        OSError: a different file exists, or the disk is full.
    """
    written = unpack(found.path, found.members, found.targets, output, advance=advance)
    for content in found.part.contents:
        count = count_content(output, content) if content.path in written else 0
        if count != content.number:
            raise ArchiveError(
                f"{found.path}: {content.path} has {count:,} {content.what}, expected {content.number:,}: "
                "it is another version. Its files are in the output, but do not count as complete"
            )
    record.parts[found.part.file] = written
    record.save(output)


def make_voc_masks(output: Path) -> dict[str, int]:
    """For mask_folder: `masks/VOCyear/SPLIT/{images,labels}` of the segmentation splits, and `masks/classes.txt`.

    Files are hard links to those under VOCdevkit, or copies where the file system has none.

    Returns:
        The number of images by `year/SPLIT`.

    Raises:
        FileNotFoundError: a split names a file that does not exist.
        FileExistsError: a different file exists under a link's name.
        ValueError: a split contains an invalid name.
    """
    remove_leftovers(output, shared=True)
    made: dict[str, int] = {}
    for listing in sorted(output.glob("VOCdevkit/VOC20*/ImageSets/Segmentation/*.txt")):
        root, split = listing.parents[2], listing.stem
        names = listing.read_text().split()
        if split == "trainval" or not names or not (root / "SegmentationClass" / f"{names[0]}.png").is_file():
            continue  # VOC2012's test has no masks
        for name in names:
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"{listing} contains {name!r}: expected image names")
            for folder, kind in (("JPEGImages", "images/{}.jpg"), ("SegmentationClass", "labels/{}.png")):
                source = root / folder / Path(kind.format(name)).name
                link_or_copy(output, source, output / "masks" / root.name / split / kind.format(name))
        made[f"{root.name}/{split}"] = len(names)
    if made:
        with whole_file(output / "masks" / "classes.txt", inside=output) as unfinished:
            unfinished.write_bytes("".join(f"{name}\n" for name in VOC_CLASSES).encode())
    return made
