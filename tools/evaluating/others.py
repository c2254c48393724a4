"""Evaluation of other tools' predictions, read from files."""

from pathlib import Path

from ...conf.schema import EvaluateConfig
from ...datasets.coco import read_truth
from ...detection.coco_results import read_results
from ...detection.metric import CocoMetric
from ...words import counted
from ..system.console import log
from .scores import Evaluation, fingerprint_of_truth, with_backend

_WITH_A_RUN = ("run", "file", "split", "data", "pictures", "report", "optimize", "compile")


def score_predictions(settings: EvaluateConfig) -> Evaluation:
    """Evaluate `predictions`, a JSON file, against `annotations`.

    Raises:
        ValueError: a key is missing or is not for files, or the predictions cannot be scored.
    """
    assert settings.predictions
    given = [key for key in _WITH_A_RUN if getattr(settings, key)]
    if given:
        raise ValueError(f"predictions={settings.predictions} is scored directly from the file: drop {given[0]}=")
    path = Path(settings.predictions)
    if not settings.annotations:
        raise ValueError(f"predictions={path} needs annotations=FILE, the COCO JSON to score it against")
    labels, truth = read_truth(settings.annotations)
    slots = {source_id: slot for slot, source_id in labels.source_ids.items()}
    found, notes = read_results(path, image_ids=truth.keys(), slots=slots)
    for note in notes:
        log.warning("%s: %s", path, note)
    metric = with_backend(CocoMetric(labels.names), settings.backend)
    for image, annotations in truth.items():
        metric.add(image, found[image], annotations)
    log.info(
        "%s in %d of the %d images that %s lists",
        counted(sum(len(arrays["scores"]) for arrays in found.values()), "detection"),
        sum(len(arrays["scores"]) > 0 for arrays in found.values()), len(truth), settings.annotations,
    )  # fmt: skip
    about = {"predictions": str(path), "data": fingerprint_of_truth(metric)}
    return Evaluation("detection", labels, metric, metric.compute(), about=about)
