"""Lists of a split's images, one name per line, like PASCAL VOC's ImageSets."""

from collections.abc import Container, Iterable
from pathlib import Path

_OTHER_NAMES = {"val": ("validation", "valid"), "train": ("training",)}  # also in upper case, as CVAT's Train


def list_for(split: str, lists: Iterable[str], *, may_cut: bool) -> tuple[str, bool]:
    """The list with a split's images, and whether train and val still have to be separated.

    Args:
        lists: the splits that have a list.
        may_cut: whether the train list, or the only list of another name, may serve both if there is none for val.
    """
    known = {name.casefold(): name for name in lists}

    def found(split: str) -> str | None:
        names = (split, *_OTHER_NAMES.get(split, ()))
        return split if split in known.values() else next((known[name] for name in names if name in known), None)

    if not may_cut or split not in ("train", "val") or found("val"):
        return found(split) or split, False
    alone = next(iter(known.values())) if len(known) == 1 and "test" not in known else split
    return found("trainval") or found("train") or alone, True


def read_list(path: Path, known: Container[str]) -> list[str]:
    """The names of a list, each once. Unless the whole line is `known`, text after the first space is ignored.

    Lists for one class have a second column, 1, 0 or -1.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
