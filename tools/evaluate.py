"""Evaluate a run: COCO AP, mIoU or top-1 and top-5 on its validation split.

pocketvision evaluate run=runs/first
pocketvision evaluate run=runs/first checkpoint=last split=train pictures=16 report=true
pocketvision evaluate file=model.onnx data.root=/other/coco

Writes results.json into the run folder, and results.npz for pocketvision compare. More:

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

from omegaconf import DictConfig, OmegaConf
from pocketvision.conf.limits import at_least
from pocketvision.datasets.annotations.sample import log_summary
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.engine.distributed import start_ranks, stop_ranks
from pocketvision.tools.engine.evaluation import evaluate as evaluate_task
from pocketvision.tools.evaluating.label_maps import score_pictures, write_test_results, written_results
from pocketvision.tools.evaluating.others import score_predictions
from pocketvision.tools.evaluating.pictures import write_comparisons
from pocketvision.tools.evaluating.protocols import asks_protocol, images_at_once, with_protocol
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


def evaluate(config: DictConfig) -> dict[str, float]:
    """Results of a run's network on a split of its data."""
    data = OmegaConf.to_container(config.data)
    at_least("pictures", config.pictures, 0)
    if config.predictions:
        return evaluate_predictions(config, data)
    if config.annotations:
        raise ValueError(f"annotations={config.annotations} go with predictions=FILE; a run has its data group")
    if config.file:
        return evaluate_exported(config, data)
    if not config.run:
        raise ValueError(
            "give run=FOLDER of a training run, file=MODEL.onnx of pocketvision export, or predictions=FILE.json"
        )
    ranks = start_ranks(config.device)
    try:
        run = load_run(config.run, which=config.checkpoint, device=ranks.device, data=data)  # pyright: ignore
        run = with_protocol(run.as_asked(config), config)
        check_asked(run.task.kind, config.bootstrap, config.coco_results)
        output = _output(config, run.folder / "results.json")
        metric = with_backend(copy.copy(run.task.metric), config.backend)
        if config.report:  # what cannot be written is known now, not after the evaluation
            at_least("report_images", config.report_images, 0)
            check_place(run.folder)
        split = config.split or ("train" if run.config.overfit else "val")
        if split == "test":
            write_test_results(run, config, ranks)
            return {}
        source = build.build_source(run.config, split, labels=run.task.labels)
        log_summary(source)
        dataset = build.build_dataset(run.config, source, training=False)
        loader = build.build_loader(
            dataset, batch_size=images_at_once(config), ranks=ranks, workers=config.workers, training=False
        )
        log.info("evaluating %s (step %d) on %d images", run.path, run.step, len(source))
        with written_results(run.task, source, config.cityscapes_results, ranks) as task:
            results = evaluate_task(task, task.model, loader, ranks, metric=metric)
        if ranks.is_main:
            about = {"step": run.step, "params": sum(p.numel() for p in run.task.model.parameters()),
                     "config": _settings(config, run)}  # fmt: skip
            evaluation = evaluation_of(run.task, run.config, source, metric, results, about=about)
            results = _publish(config, evaluation, output)
            if config.pictures:
                folder = write_comparisons(run, source, count=config.pictures, score_threshold=config.score_threshold)
                log.info("pictures of truth beside prediction: %s", folder)
            if config.report:
                page = write_report(
                    run, metric, results, source, analysis=evaluation.analysis, split=split, images=config.report_images
                )
                log.info("report: %s (%.1f MB)", page, page.stat().st_size / 1e6)
        return results
    finally:
        stop_ranks()


def evaluate_exported(config: DictConfig, data: Any) -> dict[str, float]:
    """Results of an exported file in its own runtime."""
    if config.run or config.pictures or config.report:
        raise ValueError(
            "file= is all of a model and makes no pictures and no report: leave run=, pictures= and report= out, "
            "or file="
        )
    if config.cityscapes_results or asks_protocol(config):
        raise ValueError("file= runs as it was exported: protocol=, scales=, flip= and cityscapes_results= need a run=")
    check_optimize(config.optimize, config.precision.value, config.compile, file=f"file={config.file}")
    model = load_file(config.file, threads=config.threads, data=data)
    check_asked(model.task.kind, config.bootstrap, config.coco_results)
    output = _output(config, Path(config.file).with_suffix(".results.json"))
    with_backend(model.task.metric, config.backend)
    source = build.build_source(model.config, config.split or "val", labels=model.labels)
    log_summary(source)
    log.info("evaluating %s on %d images", config.file, len(source))
    results = evaluate_file(model, source, batch_size=config.batch_size, workers=config.workers)
    evaluation = evaluation_of(model.task, model.config, source, model.task.metric, results)
    return _publish(config, evaluation, output)


def evaluate_predictions(config: DictConfig, data: Any) -> dict[str, float]:
    """Results of what another tool found: detections in a json, or pictures of label ids for Cityscapes."""
    if asks_protocol(config):
        raise ValueError("predictions= is scored as it is: protocol=, window=, stride=, scales= and flip= need a run=")
    path = Path(config.predictions)
    detections = path.suffix.lower() == ".json"
    output = _output(config, path.with_name(f"{path.stem if detections else path.name}.results.json"))
    check_asked("detection" if detections else "segmentation", config.bootstrap, config.coco_results)
    evaluation = score_predictions(config) if detections else score_pictures(config, data)
    return _publish(config, evaluation, output) if evaluation else {}


def _settings(config: DictConfig, run: LoadedRun) -> dict[str, Any]:
    """What a run was trained with, on what data it was evaluated, and how."""
    ways = ("protocol", "window", "stride", "scales", "flip", "optimize", "precision", "compile")
    evaluated = plain(config)
    return {
        **whole_config(run),
        "data": plain(run.config)["data"],
        "evaluate": {k: evaluated[k] for k in ways},
    }


def _output(config: DictConfig, usual: Path) -> Path:
    """Where the results go; what they must not overwrite is known before an evaluation takes its time."""
    output = Path(config.output or usual)
    check_files(config, output)
    return output


def _publish(config: DictConfig, evaluation: Evaluation, output: Path) -> dict[str, float]:
    return publish(evaluation, output, bootstrap=config.bootstrap, coco_results=config.coco_results)


main = command("evaluate", evaluate, positional="run", open_group="data")

if __name__ == "__main__":
    main()
