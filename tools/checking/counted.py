"""Statistics of a configured dataset from some of its samples, for any source."""

from omegaconf import DictConfig

from ...datasets.annotations.sample import evenly
from ...datasets.checking.statistics import Statistics, of_samples
from ...datasets.labels import LabelMap
from ..config.build import build_source, build_task
from .anchors import Anchors, Matches, anchors_of, match


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
    task = build_task(config, labels=next(iter(statistics.values())).labels)
    threshold = config.model.criterion.get("threshold", 0.5)
    anchors = anchors_of(task.model, input_of(config.data)[0], threshold=threshold)
    return anchors, {split: match(s.boxes, anchors) for split, s in statistics.items()} if anchors else {}


def input_of(data: DictConfig) -> tuple[tuple[int, int], bool]:
    """(h, w) of the network's input in training, and whether images keep their shape in it."""
    height, width = data.input_size
    return (int(height), int(width)), data.resize == "letterbox"
