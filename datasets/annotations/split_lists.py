"""A split's folder, key or list of images, by the names that people and tools give to splits."""

import re
from collections.abc import Container, Iterable
from pathlib import Path

from ...files import read_text
from ..images.files import is_hidden

_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_YEAR = re.compile(r"[ _-]?(?:19|20)\d\d$")  # train2017


def named_split(split: str, names: Iterable[str], *, where: str | Path) -> str | None:
    """The one of the names, found in a file or folder, that means a split: `val` may be `Valid` or `val2017`.

    Raises:
        ValueError: several mean it.
    """
    names = sorted(names)
    if split in names:
        return split
    words = _NAMES.get(split, (split.casefold(),))
    found = [name for name in names if name.casefold() in words]
    found = found or [name for name in names if _YEAR.sub("", name).casefold() in words]
    if len(found) > 1:
        raise ValueError(
            f"{where}: {' and '.join(found)} may both be the split {split!r}: rename one of them to {split}"
        )
    return found[0] if found else None


def split_folder(parent: Path, split: str) -> Path | None:
    """The folder of a split."""
    try:
        folders = [path.name for path in parent.iterdir() if path.is_dir() and not is_hidden(path.name)]
    except OSError:
        return None
    name = named_split(split, folders, where=parent)
    return parent / name if name else None


def list_for(split: str, lists: Iterable[str], *, may_cut: bool, where: str | Path) -> tuple[str, bool]:
    """The list with a split's images, and whether train and val still have to be separated.

    Args:
        lists: the splits that have a list in the folder `where`.
        may_cut: whether the train list, or the only list of another name, may serve both if there is none for val.
    """
    lists = list(lists)

    def found(split: str) -> str | None:
        return named_split(split, lists, where=where)

    if not may_cut or split not in ("train", "val") or found("val"):
        return found(split) or split, False
    alone = lists[0] if len(lists) == 1 and not found("test") else split
    return found("trainval") or found("train") or alone, True


def read_list(path: Path, known: Container[str]) -> list[str]:
    """The names of a list, each once. Unless the whole line is `known`, text after the first space is ignored.

    Lists for one class have a second column, 1, 0 or -1.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
