"""The readers of a configuration's data."""

import inspect
from collections.abc import Sequence

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from ...datasets.annotations.faults import Fault, Report
from ...datasets.checking.check import Checked, Reader
from ...datasets.checking.contents import Contents
from ...datasets.checking.reading import SOURCES, read_split
from ..config.build import make


def readers_of(data: DictConfig, splits: Sequence[str]) -> dict[str, Reader]:
    """The readers that a check uses for the splits of a data group.

    Raises:
        ValueError: there is no such split, or the check does not support this kind of data.
    """
    if unknown := [split for split in splits if split not in ("train", "val")]:
        raise ValueError(f"split={unknown[0]}: choose train or val")
    return {split: _reader(data[split], split) for split in splits}


def _reader(node: DictConfig, split: str) -> Reader:
    source = get_class(node._target_)
    if source not in SOURCES:
        known = ", ".join(sorted(source.__name__ for source in SOURCES))
        raise ValueError(
            f"data.{split} is {source.__name__}, which this command cannot check: choose a data group of one of {known}"
        )
    parameters = inspect.signature(source).parameters.keys() - {"report"}
    if unknown := sorted({str(key) for key in node} - {"_target_"} - parameters):
        raise ValueError(f"data.{split}.{unknown[0]}: {source.__name__} has no such argument")

    def reader(report: Report, train: Contents | None) -> Contents:
        plain = OmegaConf.to_container(node, resolve=True)
        arguments = make(OmegaConf.create({key: value for key, value in plain.items() if key != "_target_"}))  # type: ignore[union-attr]
        return read_split(source, arguments, labels=train.labels if train else None, report=report)

    return reader


def check_num_classes(declared: int | None, checked: Checked) -> None:
    """Report a `data.num_classes` that differs from the data's."""
    for split, contents in checked.contents.items():
        found = contents.labels.num_classes
        if declared not in (None, found):
            message = f"data.num_classes={declared}, but data.{split} has {found} classes"
            checked.add(split, [Fault("other_classes", str(contents.folder), message)])
