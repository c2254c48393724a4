"""The readers of a configuration's data."""

import inspect
from collections.abc import Sequence

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from ...datasets.checking.check import Checked, Reader
from ...datasets.checking.contents import Contents
from ...datasets.checking.reading import READERS
from ...datasets.faults import Fault, Report
from ..build import make


def readers_of(config: DictConfig, splits: Sequence[str]) -> dict[str, Reader]:
    """How the splits of `config.data` are read for a check.

    Raises:
        ValueError: there is no such split, or nothing knows how to read such data leniently.
    """
    if unknown := [split for split in splits if split not in ("train", "val")]:
        raise ValueError(f"split={unknown[0]}: a data group has the splits train and val")
    return {split: _reader(config.data[split], split) for split in splits}


def _reader(node: DictConfig, split: str) -> Reader:
    read = READERS.get(get_class(node._target_))
    if read is None:
        known = ", ".join(sorted(source.__name__ for source in READERS))
        raise ValueError(
            f"data.{split} is {node._target_.rpartition('.')[2]}, whose files (if it has any) this command does not "
            f"know how to check: it reads {known}"
        )
    if unknown := sorted({str(key) for key in node} - {"_target_", *inspect.signature(read).parameters}):
        raise ValueError(f"data.{split}.{unknown[0]}: {node._target_.rpartition('.')[2]} has no such argument")
    target = f"{read.__module__}.{read.__qualname__}"

    def reader(report: Report, train: Contents | None) -> Contents:
        arguments = OmegaConf.create({**OmegaConf.to_container(node, resolve=True), "_target_": target})  # type: ignore[dict-item]
        return make(arguments, report=report, labels=train.labels if train else None)

    return reader


def check_num_classes(config: DictConfig, checked: Checked) -> None:
    """Report a `data.num_classes` that is not the data's."""
    declared = config.data.num_classes
    for split, contents in checked.contents.items():
        found = contents.labels.num_classes
        if declared not in (None, found):
            message = f"data.num_classes={declared}, but data.{split} has {found} classes"
            checked.add(split, [Fault("other_classes", str(contents.folder), message)])
