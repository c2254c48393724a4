"""Pairs files whose names differ only in spelling: case, %20, the form of accents, backslashes, or two extensions."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote

from ..images.files import IMAGE_ENDINGS, list_files
from .faults import Fault, Report


class Near(NamedTuple):
    """What `near_names` found."""

    pairs: dict[str, str]  # wanted -> the only spare name that can be meant, and that can mean nothing else
    others: dict[str, list[str]]  # every other spare name -> what it may mean: several, or nothing


def folded(name: str) -> str:
    """The same text for all spellings of a name."""
    text = unicodedata.normalize("NFC", unquote(name).replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", text).removeprefix("./")


def stem_of(name: str) -> str:
    """A relative name without its extension."""
    return os.path.splitext(name)[0]


def with_and_without(image: str) -> tuple[str, str]:
    """The names that an annotation file of an image may have, without its own extension: `a` and `a.jpg`."""
    return stem_of(image), image


def near_names(wanted: Mapping[str, Sequence[str]], spare: Mapping[str, str]) -> Near:
    """Pair things that lack a file with files that nothing claims.

    Args:
        wanted: each thing and the names that its file may have.
        spare: each file and its name.
    """
    meant: dict[str, list[str]] = {}
    for thing, names in wanted.items():
        for name in {folded(name) for name in names}:
            meant.setdefault(name, []).append(thing)
    may_mean = {file: meant.get(folded(name), []) for file, name in spare.items()}
    claims: dict[str, list[str]] = {}
    for file, things in may_mean.items():
        for thing in things:
            claims.setdefault(thing, []).append(file)
    pairs = {things[0]: file for file, things in may_mean.items() if len(things) == 1 and len(claims[things[0]]) == 1}
    used = set(pairs.values())
    return Near(pairs, {file: things for file, things in may_mean.items() if file not in used})


def endings_of(name: str) -> list[str]:
    """A path and what is left of it without its first folders, which may be those of another machine."""
    parts = PureWindowsPath(name).parts  # splits at both kinds of slashes
    return [name, *("/".join(parts[start:]) for start in range(1, len(parts)))]


def missing_images(names: Iterable[str], folder: Path) -> list[str]:
    """The names that do not exist. Listing is far cheaper than a look-up for every file."""
    names, listed = list(names), set[str]()
    for below in {name.rpartition("/")[0] for name in names}:
        try:
            with os.scandir(folder / below) as entries:
                listed |= {f"{below}/{e.name}" if below else e.name for e in entries if _is_file(e)}
        except (OSError, ValueError):  # ValueError: a name with a null byte
            pass
    # Looked up again by name: a file system may list a name in another spelling.
    return [name for name in names if name not in listed and not (folder / name).is_file()]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Not a link to nothing, nor a pipe."""
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def same_name_below(name: str, folder: Path) -> str:
    """The only image below a folder with the same last part of its name, in any spelling or else with any extension.

    Empty if there is none.
    """
    last, files = folded(name).rpartition("/")[2], list_files(folder, IMAGE_ENDINGS)
    lasts = [folded(path).rpartition("/")[2] for path in files]
    same = [path for path, other in zip(files, lasts, strict=True) if other == last]
    found = same or [path for path, other in zip(files, lasts, strict=True) if stem_of(other) == stem_of(last)]
    return found[0] if len(found) == 1 else ""


def respelled(names: Sequence[str], folder: Path, *, source: str, report: Report) -> list[str]:
    """`names` with those that exist only in another spelling replaced, each reported."""
    missing = missing_images(names, folder)
    if not missing:
        return list(names)
    spare = set(list_files(folder, IMAGE_ENDINGS)).difference(names)
    pairs = near_names({name: [name] for name in missing}, {name: name for name in spare}).pairs
    for listed, found in pairs.items():
        message = f"{source} lists {listed!r}; {found} is read, which differs only in spelling"
        report(Fault("near_name", str(folder / found), message, image=found))
    return [pairs.get(name, name) for name in names]
