"""From a configuration to readers, to statistics of samples, and to anchors with the boxes that match them."""

import inspect
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from ...datasets.annotations.faults import Fault, Report
from ...datasets.annotations.sample import evenly
from ...datasets.checking.check import Checked, Reader
from ...datasets.checking.contents import Contents
from ...datasets.checking.reading import SOURCES, read_split
from ...datasets.checking.statistics import Statistics, of_samples
from ...datasets.labels import LabelMap, nameless_labels
from ...words import counted
from ..config.build import build_source, build_task, get_class, make, split_node
from .anchors import Anchors, Matches, anchors_of, match


def readers_of(data: DictConfig, splits: Sequence[str]) -> dict[str, Reader]:
    """The readers that a check uses for the splits of a data group.

    Raises:
        ValueError: there is no such split, or the check does not support this kind of data.
    """
    if unknown := [split for split in splits if split not in ("train", "val")]:
        raise ValueError(f"split={unknown[0]}: choose train or val")
    return {split: _reader(split_node(data, split), split) for split in splits}


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
            message = f"data.num_classes={declared}, but data.{split} has {counted(found, 'class')}"
            checked.add(split, [Fault("other_classes", str(contents.folder), message)])


def count_samples(config: DictConfig, count: int) -> dict[str, Statistics]:
    """Statistics of at most `count` images of each split, evenly spread."""
    found: dict[str, Statistics] = {}
    labels: LabelMap | None = None
    input_size, letterbox = input_of(config.data)
    for split in ("train", "val"):
        source = build_source(config, split, labels=labels)
        labels = source.labels
        samples = (source.read(index) for index in evenly(len(source), count))
        found[split] = of_samples(samples, source.labels, config.data.task, input_size, letterbox=letterbox)
    return found


def matched(config: DictConfig, statistics: dict[str, Statistics]) -> tuple[Anchors | None, dict[str, Matches]]:
    """The configured detector's anchors, and each split's boxes matched against them.

    None and empty for other tasks, or without statistics.
    """
    if config.data.task != "detection" or config.model.task != "detection" or not statistics:
        return None, {}
    # Anchors do not depend on the classes, but a network of twenty thousand has gigabytes.
    task = build_task(config, labels=nameless_labels(1, first=1))
    threshold = config.model.criterion.get("threshold", 0.5)
    anchors = anchors_of(task.model, input_of(config.data)[0], threshold=threshold)
    return anchors, {split: match(s.boxes, anchors) for split, s in statistics.items()} if anchors else {}


def input_of(data: DictConfig) -> tuple[tuple[int, int], bool]:
    """(h, w) of the network's input in training, and whether images keep their shape in it."""
    height, width = data.input_size
    return (int(height), int(width)), data.resize == "letterbox"
