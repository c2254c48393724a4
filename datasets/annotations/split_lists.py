"""Lists of a split's images, one name per line, like PASCAL VOC's ImageSets."""

from collections.abc import Container
from pathlib import Path


def list_for(split: str, lists: Container[str], *, may_cut: bool) -> tuple[str, bool]:
    """The list with a split's images, and whether train and val still have to be separated.

    Args:
        lists: the splits that have a list.
        may_cut: whether the train list may serve both if there is none for val.
    """
    cut_off = may_cut and split in ("train", "val") and "val" not in lists
    return next((name for name in ("trainval", "train") if name in lists), split) if cut_off else split, cut_off


def read_list(path: Path, known: Container[str]) -> list[str]:
    """The names of a list, each once. Unless the whole line is `known`, text after the first space is ignored.

    Lists for one class have a second column, 1, 0 or -1.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
