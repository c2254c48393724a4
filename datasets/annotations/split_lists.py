"""Lists of the images of a split, a name a line, as PASCAL VOC has them in ImageSets."""

from collections.abc import Container
from pathlib import Path


def list_for(split: str, lists: Container[str], *, may_cut: bool) -> tuple[str, bool]:
    """The list that has a split's images, and whether train and val have yet to be cut out of it.

    Args:
        lists: the splits that have one.
        may_cut: whether a list of train may stand for both where there is none of val.
    """
    cut_off = may_cut and split in ("train", "val") and "val" not in lists
    return next((name for name in ("trainval", "train") if name in lists), split) if cut_off else split, cut_off


def read_list(path: Path, known: Container[str]) -> list[str]:
    """The names of a list, each once. What follows a name that is not `known` with its spaces is no part of it.

    Lists for one class have a second column, 1, 0 or -1.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
