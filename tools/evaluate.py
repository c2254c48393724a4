"""Evaluate a run on its validation split: COCO AP, mIoU, or top-1 and top-5.

pocketvision evaluate run=runs/first
pocketvision evaluate run=runs/first checkpoint=last split=train pictures=16 report=true
pocketvision evaluate file=model.onnx data.root=/other/coco

Writes results.json to the run folder, and results.npz for pocketvision compare. More examples:

  pocketvision evaluate run=runs/first data.root=/other/coco
  pocketvision evaluate run=runs/first protocol=sliding window=[769,769] scales=[0.75,1.0,1.25] flip=true
  pocketvision evaluate run=runs/first split=test cityscapes_results=results.zip
  pocketvision evaluate predictions=results.zip data.root=/data/cityscapes
  pocketvision evaluate run=runs/first bootstrap=200 coco_results=detections.json
  pocketvision evaluate predictions=detections.json annotations=instances_val2017.json
"""

import copy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pocketvision.absent import Results
from pocketvision.conf.schema import EvaluateConfig
from pocketvision.datasets.annotations.sample import log_summary
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.distributed import Ranks, start_ranks, stop_ranks
from pocketvision.tools.engine.evaluation import evaluate as evaluate_task
from pocketvision.tools.evaluating import protocols
from pocketvision.tools.evaluating.label_maps import score_pictures, write_test_results, written_results
from pocketvision.tools.evaluating.others import score_predictions
from pocketvision.tools.evaluating.pictures import write_comparisons
from pocketvision.tools.evaluating.scores import (
    Evaluation,
    check_asked,
    check_files,
    evaluation_of,
    publish,
    with_backend,
)
from pocketvision.tools.predicting.exported import evaluate_file, load_file
from pocketvision.tools.reporting.writing import check_place, write_report
from pocketvision.tools.runs.keys import plain
from pocketvision.tools.runs.loaded import LoadedRun, check_optimize, load_run, whole_config
from pocketvision.tools.system.console import log
from pocketvision.words import counted


def evaluate(config: DictConfig) -> Results:
    """Evaluate a run's network on a split of its data."""
    settings = settings_of(config, EvaluateConfig)
    if settings.predictions:
        return evaluate_predictions(settings)
    if settings.annotations:
        raise ValueError(
            f"annotations={settings.annotations} needs predictions=FILE; a run is evaluated on its data group"
        )
    if settings.file:
        return evaluate_exported(settings)
    if not settings.run:
        raise ValueError(
            "set run=FOLDER (a training run), file=MODEL.onnx (from pocketvision export) or predictions=FILE.json"
        )
    ranks = start_ranks(settings.device)
    try:
        return evaluate_run(settings, ranks)
    finally:
        stop_ranks()


def evaluate_run(settings: EvaluateConfig, ranks: Ranks) -> Results:
    """Results of a training run's network on a split of its data."""
    assert settings.run
    run = load_run(settings.run, which=settings.checkpoint, device=ranks.device, data=settings.data)
    run = protocols.with_protocol(run.as_asked(settings), settings)
    check_asked(run.task.kind, settings.bootstrap, settings.coco_results)
    output = _output(settings, run.folder / "results.json")
    metric = with_backend(copy.copy(run.task.metric), settings.backend)
    if settings.report:  # fail before the evaluation, not after it
        check_place(run.folder)
    split = settings.split or ("train" if run.config.overfit else "val")
    if split == "test":
        write_test_results(run, settings, ranks)
        return {}
    source = build.build_source(run.config, split, labels=run.task.labels)
    log_summary(source)
    dataset = build.build_dataset(run.config, source, training=False)
    loader = build.build_loader(
        dataset, batch_size=protocols.images_at_once(settings), ranks=ranks, workers=settings.workers, training=False
    )
    log.info("evaluating %s (step %d) on %s", run.path, run.step, counted(len(source), "image"))
    with written_results(run.task, source, settings.cityscapes_results, ranks) as task:
        results = evaluate_task(task, task.model, loader, ranks, metric=metric)
    if not ranks.is_main:
        return results
    about = {"step": run.step, "params": sum(p.numel() for p in run.task.model.parameters()),
             "config": _about(settings, run)}  # fmt: skip
    evaluation = evaluation_of(run.task, run.config, source, metric, results, about=about)
    results = _publish(settings, evaluation, output)
    if settings.pictures:
        folder = write_comparisons(run, source, count=settings.pictures, score_threshold=settings.score_threshold)
        log.info("pictures (ground truth beside prediction): %s", folder)
    if settings.report:
        page = write_report(run, evaluation, results, source, split=split, images=settings.report_images)
        log.info("report: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    return results


def evaluate_exported(settings: EvaluateConfig) -> Results:
    """Evaluate an exported file in its own runtime."""
    assert settings.file
    if settings.run or settings.pictures or settings.report:
        raise ValueError(
            "file= contains the whole model and supports no pictures or report: drop run=, pictures= and report=, "
            "or drop file="
        )
    if settings.cityscapes_results or protocols.asks_protocol(settings):
        raise ValueError(
            "file= cannot be changed after export: protocol=, scales=, flip= and cityscapes_results= need run="
        )
    check_optimize(settings.optimize, settings.precision.value, settings.compile, file=f"file={settings.file}")
    model = load_file(settings.file, threads=settings.threads, data=settings.data)
    check_asked(model.task.kind, settings.bootstrap, settings.coco_results)
    output = _output(settings, Path(settings.file).with_suffix(".results.json"))
    with_backend(model.task.metric, settings.backend)
    source = build.build_source(model.config, settings.split or "val", labels=model.labels)
    log_summary(source)
    log.info("evaluating %s on %s", settings.file, counted(len(source), "image"))
    results = evaluate_file(model, source, batch_size=settings.batch_size, workers=settings.workers)
    evaluation = evaluation_of(model.task, model.config, source, model.task.metric, results)
    return _publish(settings, evaluation, output)


def evaluate_predictions(settings: EvaluateConfig) -> Results:
    """Evaluate another tool's predictions: detections as JSON, or label-id PNGs for Cityscapes."""
    assert settings.predictions
    if protocols.asks_protocol(settings):
        raise ValueError("predictions= is scored directly: protocol=, window=, stride=, scales= and flip= need run=")
    path = Path(settings.predictions)
    detections = path.suffix.lower() == ".json"
    output = _output(settings, path.with_name(f"{path.stem if detections else path.name}.results.json"))
    check_asked("detection" if detections else "segmentation", settings.bootstrap, settings.coco_results)
    evaluation = score_predictions(settings) if detections else score_pictures(settings)
    return _publish(settings, evaluation, output) if evaluation else {}


def _about(settings: EvaluateConfig, run: LoadedRun) -> dict[str, Any]:
    """The run's training configuration, its evaluation data, and the evaluation settings."""
    asked = {key: getattr(settings, key) for key in (*protocols.KEYS, "optimize", "compile")}
    return {
        **whole_config(run),
        "data": plain(run.config)["data"],
        "evaluate": asked | {"precision": settings.precision.value},
    }


def _output(settings: EvaluateConfig, usual: Path) -> Path:
    """The results file. It is checked now, so that an existing file is reported before a long evaluation."""
    output = Path(settings.output or usual)
    check_files(settings, output)
    return output


def _publish(settings: EvaluateConfig, evaluation: Evaluation, output: Path) -> Results:
    return publish(evaluation, output, bootstrap=settings.bootstrap, coco_results=settings.coco_results)


main = command("evaluate", evaluate, positional="run", open_group="data")

if __name__ == "__main__":
    main()
