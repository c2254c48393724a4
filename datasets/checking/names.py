"""Finds names that are listed twice, and pictures that no split lists."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..annotations.faults import Fault
from ..images.files import IMAGE_ENDINGS, list_files
from .contents import Contents


def check_names(contents: Contents) -> Iterator[Fault]:
    """Pictures of a split with the same name, or with names that some file systems treat as the same."""
    seen: dict[str, str] = {}
    for picture in contents.pictures:
        other = seen.setdefault(picture.name.casefold(), picture.name)
        source = picture.source or str(contents.folder)
        if other == picture.name and seen.get(f"/{picture.name}"):
            yield Fault("same_name", source, f"{source} lists {picture.name} several times", image=picture.name)
        elif other != picture.name:
            message = f"{picture.name} and {other} differ only in case: the same file on Windows and macOS"
            yield Fault("case_names", source, message, image=picture.name)
        seen[f"/{picture.name}"] = picture.name  # no relative name starts like that


def unlisted(contents: Mapping[str, Contents]) -> Iterator[Fault]:
    """Pictures in the folders of detection data that no split lists, and masks without an image."""
    listed: dict[Path, set[str]] = {}
    for split in contents.values():
        if split.kind == "detection":
            listed.setdefault(split.folder, set()).update(picture.path for picture in split.pictures)
    everything = set().union(*listed.values()) if listed else set()
    told: set[str] = set()
    for folder in sorted(listed):
        for name in list_files(folder, IMAGE_ENDINGS):
            path = str(folder / name)
            if path not in everything and path not in told:
                told.add(path)
                yield Fault("unlisted", path, f"{path} is not listed by any split", image=name)
    for split in contents.values():
        for path in split.spare:
            yield Fault("unlisted", path, f"{path} is a mask without an image")
