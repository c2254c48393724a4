"""Evaluate a run: mAP, mIoU or top-1 and top-5 on its validation split, written to results.json in the run folder.

pocketvision evaluate run=runs/first
"""

import copy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pocketvision.conf.schema import at_least
from pocketvision.datasets.sample import log_summary
from pocketvision.tools import build, pictures, runs
from pocketvision.tools.cli import command, log
from pocketvision.tools.engine.distributed import start_ranks, stop_ranks
from pocketvision.tools.engine.evaluation import evaluate as evaluate_task
from pocketvision.tools.exported import evaluate_file, load_file
from pocketvision.tools.label_results import (
    evaluate_pictures,
    results_table,
    write_test_results,
    written_results,
)
from pocketvision.tools.protocols import asks_protocol, images_at_once, with_protocol
from pocketvision.tools.reporting.writing import check_place, write_report


def evaluate(config: DictConfig) -> dict[str, float]:
    """Results of a run's network on a split of its data."""
    data = OmegaConf.to_container(config.data)
    if config.file:
        return evaluate_exported(config, data)
    if config.predictions:
        return evaluate_pictures(config, data)
    if not config.run:
        raise ValueError("give run=FOLDER of a training run, or file=MODEL.onnx that pocketvision export wrote")
    ranks = start_ranks(config.device)
    try:
        run = runs.load_run(config.run, which=config.checkpoint, device=ranks.device, data=data)  # pyright: ignore
        run = with_protocol(run.as_asked(config), config)
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
        metric = copy.copy(run.task.metric)
        log.info("evaluating %s (step %d) on %d images", run.path, run.step, len(source))
        with written_results(run.task, source, config.cityscapes_results, ranks) as task:
            results = evaluate_task(task, task.model, loader, ranks, metric=metric)
        if ranks.is_main:
            output = Path(config.output or run.folder / "results.json")
            runs.write_results(output, results)
            log.info("%s\nwritten: %s", results_table(results, metric), output)
            if config.pictures:
                folder = pictures.write_comparisons(
                    run, source, count=config.pictures, score_threshold=config.score_threshold
                )
                log.info("pictures of truth beside prediction: %s", folder)
            if config.report:
                page = write_report(run, metric, results, source, split=split, images=config.report_images)
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
    runs.check_optimize(config.optimize, config.precision.value, config.compile, file=f"file={config.file}")
    model = load_file(config.file, threads=config.threads, data=data)
    source = build.build_source(model.config, config.split or "val", labels=model.labels)
    log_summary(source)
    log.info("evaluating %s on %d images", config.file, len(source))
    results = evaluate_file(model, source, batch_size=config.batch_size, workers=config.workers)
    output = Path(config.output or Path(config.file).with_suffix(".results.json"))
    runs.write_results(output, results)
    log.info("%s\nwritten: %s", results_table(results, model.task.metric), output)
    return results


main = command("evaluate", evaluate, positional="run", open_group="data")

if __name__ == "__main__":
    main()
