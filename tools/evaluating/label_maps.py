"""Label maps in evaluation: files for Cityscapes' server, and label maps from other tools."""

import shutil
import tempfile
from collections.abc import Iterator
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
from ...words import counted
from ..config import build
from ..engine.distributed import Ranks
from ..engine.task import Task
from ..runs.loaded import LoadedRun
from ..system.console import log, progress
from .scores import Evaluation

# ---- for the server --------------------------------------------------------------------------------------


@contextmanager
def written_results(task: Task, source: Any, output: str | None, ranks: Ranks) -> Iterator[Task]:
    """The task; its label maps are written to `output` in the format of Cityscapes' server, and checked at the end.

    A folder, or an archive if the name ends with .zip. Without `output` nothing is written.

    Raises:
        ValueError: the data is not Cityscapes, or the output already exists.
    """
    if output is None:
        yield task
        return
    if not isinstance(source, Cityscapes):
        raise ValueError(
            "cityscapes_results needs all images of a Cityscapes split (data=cityscapes, without overfit), "
            f"but the data is {type(source).__name__}"
        )
    path, folder = Path(output), None
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"cityscapes_results={output} already exists: choose another name or remove it")
    ranks.barrier()
    archive = path.suffix.lower() == ".zip"
    try:
        if ranks.is_main:
            place = path.parent if archive else path
            place.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=place)) if archive else path
        target = ranks.gather(folder)[0]

        def postprocess(outputs: dict[str, Any], metas: list[dict[str, Any]]) -> list[Tensor]:
            label_maps = task.postprocess(outputs, metas)
            for labels, meta in zip(label_maps, metas, strict=True):
                write_result(target, meta["image_id"], labels.cpu().numpy())
            return label_maps

        yield replace(task, postprocess=postprocess)
        ranks.barrier()
        if ranks.is_main:
            if archive:
                pack_results(target, path)
            sizes = dict(zip(source.image_ids.tolist(), image_sizes(source.image_paths), strict=True))
            Results(path, sizes).check()
            log.info("checked and ready for Cityscapes' server: %s (%d label-id PNGs)", path, len(sizes))
    finally:
        if archive and ranks.is_main and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@torch.inference_mode()
def write_test_results(run: LoadedRun, settings: EvaluateConfig, ranks: Ranks) -> None:
    """Write label maps of images without ground truth, for the test server.

    Raises:
        ValueError: `cityscapes_results` is not set, or the run's data is not Cityscapes.
    """
    if not settings.cityscapes_results:
        raise ValueError("split=test has no ground truth: set cityscapes_results=FILE.zip, or use split=val")
    if given := [key for key in ("bootstrap", "pictures", "report") if getattr(settings, key)]:
        raise ValueError(f"split=test has no ground truth: drop {', '.join(given)}")
    node = run.config.data.val
    if build.get_class(node._target_) is not Cityscapes:
        raise ValueError(f"split=test is only for Cityscapes (data=cityscapes), but this run's data is {node._target_}")
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
    """Evaluate label maps from files against Cityscapes' ground truth.

    split=test has no ground truth: its files are only checked.

    Raises:
        ValueError: keys conflict, or label maps are missing or wrong.
    """
    if settings.run or settings.file or settings.pictures or settings.report or settings.cityscapes_results:
        raise ValueError(
            "predictions= is scored directly: drop run=, file=, pictures=, report= and cityscapes_results="
        )
    if settings.annotations:
        raise ValueError(f"annotations={settings.annotations} is for a JSON of detections; label maps need data.root=")
    if unknown := sorted(set(settings.data) - {"root", "suffix", "limit"}):
        raise ValueError(f"data.{unknown[0]} does not apply to label maps: set data.root, data.suffix or data.limit")
    if not settings.data.get("root"):
        raise ValueError("predictions= needs data.root=FOLDER, the Cityscapes folder with leftImg8bit and gtFine")
    assert settings.predictions
    split = settings.split or "val"
    source = Cityscapes(**settings.data, split=split, truth=split != "test")
    log_summary(source)
    sizes = dict(zip(source.image_ids.tolist(), image_sizes(source.image_paths), strict=True))
    found = Results(settings.predictions, sizes, prediction_ids=settings.prediction_ids)
    if split == "test":
        found.check()
        log.info("%s: %s, valid for Cityscapes' server", settings.predictions, counted(len(sizes), "label map"))
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
            found.check()  # names all bad files
            raise
        truth: dict[str, Any] = {"mask": source.read_mask(index)}
        if path := source.instances_path(index):
            truth["instances"] = decode_instances(path)
        meta = {"image_id": image_id, "original_size": truth["mask"].shape, "ground_truth": truth}
        metric.update([torch.from_numpy(labels)], [{}], [meta])
    return metric
