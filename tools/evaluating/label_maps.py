"""Label maps in and out of evaluation: files for Cityscapes' server, pictures of other tools, the table by class."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from ...conf.schema import EvaluateConfig
from ...datasets.annotations.sample import log_summary
from ...datasets.cityscapes import Cityscapes
from ...datasets.images.decode import decode_instances
from ...datasets.labels import CITYSCAPES, instance_sizes
from ...datasets.writing.cityscapes_results import Results, image_sizes, pack_results, result_tables, write_result
from ...segmentation.metric import MeanIoU
from ..config import build
from ..engine.distributed import Ranks
from ..engine.task import Task
from ..runs.loaded import LoadedRun
from ..system.console import log, progress
from .scores import Evaluation

# ---- for the server --------------------------------------------------------------------------------------


class _Writing:
    """A postprocess that also writes what it gives."""

    def __init__(self, postprocess: Any, folder: Path) -> None:
        self._postprocess, self._folder = postprocess, folder

    def __call__(self, outputs: dict[str, Any], metas: Sequence[dict[str, Any]]) -> list[Tensor]:
        label_maps = self._postprocess(outputs, metas)
        for labels, meta in zip(label_maps, metas, strict=True):
            write_result(self._folder, meta["image_id"], labels.cpu().numpy())
        return label_maps


@contextmanager
def written_results(task: Task, source: Any, output: str | None, ranks: Ranks) -> Iterator[Task]:
    """The task, its label maps written to `output` as Cityscapes' server takes them, and checked at the end.

    A folder, or an archive if the name ends with .zip. Without `output` nothing is written.

    Raises:
        ValueError: the data are not Cityscapes', or the output is there already.
    """
    if output is None:
        yield task
        return
    if not isinstance(source, Cityscapes):
        raise ValueError(
            "cityscapes_results is for all images of a split of Cityscapes (data=cityscapes, without overfit), "
            f"not for {type(source).__name__}"
        )
    path, folder = Path(output), None
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"cityscapes_results={output} is there already: choose another name, or remove it")
    ranks.barrier()
    archive = path.suffix.lower() == ".zip"
    try:
        if ranks.is_main:
            place = path.parent if archive else path
            place.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=place)) if archive else path
        folder = ranks.gather(folder)[0]
        yield replace(task, postprocess=_Writing(task.postprocess, folder))
        ranks.barrier()
        if ranks.is_main:
            if archive:
                pack_results(folder, path)
            sizes = dict(zip(source.image_ids.tolist(), image_sizes(source.image_paths), strict=True))
            Results(path, sizes).check()
            log.info("for Cityscapes' server, checked: %s (%d pictures of label ids)", path, len(sizes))
    finally:
        if archive and ranks.is_main and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@torch.inference_mode()
def write_test_results(run: LoadedRun, settings: EvaluateConfig, ranks: Ranks) -> None:
    """Label maps of images without truth, for the server alone.

    Raises:
        ValueError: no `cityscapes_results`, or the run's data are not Cityscapes'.
    """
    if not settings.cityscapes_results:
        raise ValueError("split=test has no truth to compare with: give cityscapes_results=FILE.zip, or split=val")
    if given := [key for key in ("bootstrap", "pictures", "report") if getattr(settings, key)]:
        raise ValueError(f"split=test has no truth to compare with: leave {', '.join(given)} out")
    node = run.config.data.val
    if build.get_class(node._target_) is not Cityscapes:
        raise ValueError(f"split=test is Cityscapes' (data=cityscapes), this run's data is {node._target_}")
    source = build.make(node, split="test", truth=False)
    log_summary(source)
    dataset = build.build_dataset(run.config, source, training=False)
    loader = build.build_loader(dataset, batch_size=1, ranks=ranks, workers=settings.workers, training=False)
    with written_results(run.task, source, settings.cityscapes_results, ranks) as task:
        for batch in progress(loader, total=len(loader), title="predicting", quiet=not ranks.is_main):
            batch = batch.to(ranks.device)
            task.postprocess(task.model(batch.images), batch.metas)


# ---- of other tools --------------------------------------------------------------------------------------


def score_pictures(settings: EvaluateConfig) -> Evaluation | None:
    """The evaluation of label pictures against Cityscapes' truth.

    Of split=test, which has no truth, only a check.

    Raises:
        ValueError: keys that do not go together, or pictures that are missing or wrong.
    """
    if settings.run or settings.file or settings.pictures or settings.report or settings.cityscapes_results:
        raise ValueError(
            "predictions= is scored as it is: leave run=, file=, pictures=, report= and cityscapes_results= out"
        )
    if settings.annotations:
        raise ValueError(f"annotations={settings.annotations} go with a json of detections; pictures need data.root=")
    if unknown := sorted(set(settings.data) - {"root", "suffix", "limit"}):
        raise ValueError(f"data.{unknown[0]} says nothing of label pictures: give data.root, data.suffix or data.limit")
    if not settings.data.get("root"):
        raise ValueError("predictions= needs data.root=FOLDER of Cityscapes: leftImg8bit and gtFine")
    assert settings.predictions
    split = settings.split or "val"
    source = Cityscapes(**settings.data, split=split, truth=split != "test")
    log_summary(source)
    sizes = dict(zip(source.image_ids.tolist(), image_sizes(source.image_paths), strict=True))
    found = Results(settings.predictions, sizes, prediction_ids=settings.prediction_ids)
    if split == "test":
        found.check()
        log.info("%s: %d pictures, as Cityscapes' server takes them", settings.predictions, len(sizes))
        return None
    metric = _score(found, source)
    about = {"predictions": settings.predictions, "data": source.fingerprint()}
    return Evaluation("segmentation", CITYSCAPES, metric, metric.compute(), {"unscored": metric.unscored}, about)


def _score(found: Results, source: Cityscapes) -> MeanIoU:
    slots, beyond = result_tables(found.prediction_ids)
    metric = MeanIoU(
        CITYSCAPES.names,
        categories=build.categories(CITYSCAPES),
        instances=instance_sizes(CITYSCAPES),
        unscored=beyond,
    )
    found.check_files()
    for index, image_id in enumerate(progress(source.image_ids.tolist(), total=len(source), title="scoring")):
        try:
            labels = cv2.LUT(found.read(image_id), slots)
        except ValueError:
            found.check()  # names them all
            raise
        truth: dict[str, Any] = {"mask": source.read_mask(index)}
        if path := source.instances_path(index):
            truth["instances"] = decode_instances(path)
        meta = {"image_id": image_id, "original_size": truth["mask"].shape, "ground_truth": truth}
        metric.update([torch.from_numpy(labels)], [{}], [meta])
    return metric
