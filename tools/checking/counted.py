"""Statistics of a configured dataset from some of its samples, for any source."""

from collections.abc import Iterable

from omegaconf import DictConfig

from ...datasets.annotations.sample import Sample, evenly
from ...datasets.checking.statistics import Statistics, of_samples
from ...datasets.labels import LabelMap
from ..config.build import build_source, build_task
from ..drawing.figure import Chart
from .anchors import Anchors, Matches, anchors_of, match
from .charts import charts_of


def count_samples(config: DictConfig, count: int) -> dict[str, Statistics]:
    """Statistics of at most `count` images of each split, evenly spread."""
    found: dict[str, Statistics] = {}
    labels: LabelMap | None = None
    for split in ("train", "val"):
        source = build_source(config, split, labels=labels)
        labels = source.labels
        indices = evenly(len(source), count)
        samples: Iterable[Sample] = (source.read(index) for index in indices)
        found[split] = of_samples(
            samples, source.labels, config.data.task, input_size_of(config), letterbox=is_letterbox(config)
        )
    return found


def charts(config: DictConfig, statistics: dict[str, Statistics]) -> dict[str, Chart]:
    """The charts of a dataset; for detection, with the anchors of the configured detector."""
    return charts_of(statistics, *matched(config, statistics))


def matched(config: DictConfig, statistics: dict[str, Statistics]) -> tuple[Anchors | None, dict[str, Matches]]:
    """The configured detector's anchors, and each split's boxes matched against them.

    None and empty for other tasks, or without statistics.
    """
    if config.data.task != "detection" or config.model.task != "detection" or not statistics:
        return None, {}
    task = build_task(config, labels=next(iter(statistics.values())).labels)
    threshold = config.model.criterion.get("threshold", 0.5)
    anchors = anchors_of(task.model, input_size_of(config), threshold=threshold)
    return anchors, {split: match(s.boxes, anchors) for split, s in statistics.items()} if anchors else {}


def input_size_of(config: DictConfig) -> tuple[int, int]:
    """(h, w) of the network's input in training."""
    height, width = config.data.input_size
    return int(height), int(width)


def is_letterbox(config: DictConfig) -> bool:
    return config.data.resize == "letterbox"
