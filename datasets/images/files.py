"""Finds files below a folder, for every reader and command, and reads a picture's size from its first bytes."""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from .decode import decode_image

IMAGE_ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif",
    ".jp2", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
# What belongs next to pictures: no reader takes it for one, and nobody misses it.
_COMPANIONS = frozenset({
    ".txt", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv", ".md", ".html", ".pdf", ".cache", ".names",
    ".data", ".log", ".py",
})  # fmt: skip
_CLUTTER = ("thumbs.db", "desktop.ini", "license", "readme")
_SHOWN = 3  # names per reason
_SINGULAR = {
    "hidden files": "hidden file",
    "hidden folders": "hidden folder",
    "files with other extensions": "file with another extension",
    "pipes, sockets or devices": "pipe, socket or device",
    "folders that are read under another name": "folder that is read under another name",
    "folders that cannot be read": "folder that cannot be read",
}
_ORIENTATION = 274  # the EXIF tag; from value 5 on, the sides are swapped


def image_size(path: str | Path) -> tuple[int, int]:
    """(h, w) of the upright picture, as `decode_image` returns it.

    JPEG (and BMP, and PNG unless its EXIF follows the pixels) is not decoded, which takes 0.1 ms; others are.

    Raises:
        FileNotFoundError, ValueError: as `decode_image`.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.format in ("JPEG", "MPO", "PNG", "BMP"):
                    width, height = picture.size
                    return (width, height) if orientation_of(picture) in (5, 6, 7, 8) else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass  # the decoder reports the error
    height, width = decode_image(path).shape[:2]
    return height, width


def orientation_of(picture: Any) -> int:
    """The EXIF orientation of an opened PIL image, 1 to 8.

    Not from its getexif(): that also uses XMP, which the decoder does not read.
    """
    from PIL import Image

    exif = Image.Exif()
    exif.load(picture.info.get("exif") or b"")
    found = exif.get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


class Found(NamedTuple):
    """The files of a folder, and what a search left out."""

    folder: Path
    names: list[str]  # relative (with /), sorted
    left_out: list[str]  # phrases such as "2 hidden files (._a.jpg, ._b.jpg)"

    @property
    def note(self) -> str:
        """One sentence about what was left out; empty if nothing was."""
        return f"left out below {self.folder}: {'; '.join(self.left_out)}" if self.left_out else ""


def find_files(folder: Path, endings: frozenset[str], *, deep: bool = True) -> Found:
    """The files below a folder that have one of the extensions, in upper or lower case.

    The one search of all readers and commands. Links to folders are followed; a folder that is reached twice, or that
    contains `folder`, is read once, so that circles end. Hidden files and folders (a dot first: `._x.jpg`,
    `.ipynb_checkpoints`) and `__MACOSX` are left out.

    Args:
        deep: also search the folders below.
    """
    search = _Search(endings, deep)
    seen = {key for above in _and_above(folder) if (key := _identity(above))}
    links = search.walk(str(folder), "", seen)
    while links:  # after the folders that really are here, which so keep their own names
        path, below = links.pop(0)
        key = _identity(path)
        if key is None or key in seen:
            search.leave("folders that are read under another name", below)
        else:
            seen.add(key)
            links += search.walk(path, f"{below}/", seen)
    return Found(folder, sorted(search.names), search.left_out())


def list_files(folder: Path, endings: frozenset[str], *, deep: bool = True) -> list[str]:
    """The names that `find_files` finds."""
    return find_files(folder, endings, deep=deep).names


def folder_named(parent: Path, *names: str) -> Path | None:
    """The folder with the first of the names that is there, in this case or else in another."""
    try:
        there = {path.name: path for path in sorted(parent.iterdir()) if path.is_dir()}
    except OSError:
        return None
    folded = {name.casefold(): path for name, path in there.items()}
    return next((found for name in names if (found := there.get(name) or folded.get(name))), None)


class _Search:
    def __init__(self, endings: frozenset[str], deep: bool) -> None:
        self._endings, self._deep = endings, deep
        self.names: list[str] = []
        self._left: dict[str, list[str]] = {}

    def leave(self, why: str, name: str) -> None:
        self._left.setdefault(why, []).append(name)

    def walk(self, path: str, prefix: str, seen: set[tuple[int, int]]) -> list[tuple[str, str]]:
        """Search a folder and those below; returns (path, name) of the links to folders, for later."""
        links, remaining = [], [(path, prefix)]
        while remaining:
            path, prefix = remaining.pop()
            try:
                with os.scandir(path) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                self.leave("folders that cannot be read", prefix or ".")
                continue
            for entry in entries:
                name = prefix + entry.name
                if not _is_folder(entry):
                    self._file(entry, name)
                elif not self._deep:
                    continue
                elif is_hidden(entry.name):
                    self.leave("hidden folders", name)
                elif entry.is_symlink():
                    links.append((entry.path, name))
                else:
                    key = _identity(entry.path)
                    if key in seen:
                        self.leave("folders that are read under another name", name)
                        continue
                    seen.update((key,) if key else ())
                    remaining.append((entry.path, f"{name}/"))
        return links

    def _file(self, entry: os.DirEntry[str], name: str) -> None:
        ending = os.path.splitext(entry.name)[1].lower()
        if is_hidden(entry.name):
            if ending in self._endings:
                self.leave("hidden files", name)
        elif ending not in self._endings:
            if ending not in _COMPANIONS and entry.name.lower() not in _CLUTTER:
                self.leave("files with other extensions", name)
        elif _is_special(entry):
            self.leave("pipes, sockets or devices", name)
        else:
            self.names.append(name)

    def left_out(self) -> list[str]:
        return [_phrase(why, sorted(names)) for why, names in sorted(self._left.items())]


def _phrase(why: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} {why if len(names) > 1 else _SINGULAR[why]} ({shown})"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data: an editor's, a notebook's, macOS'."""
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Not a file that can be read to its end. A link to nothing stays in the list: its reader reports it."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _and_above(folder: Path) -> list[Path]:
    real = Path(os.path.realpath(folder))
    return [real, *real.parents]
