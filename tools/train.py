"""Train a detector or a segmenter. The same command again resumes; a fresh start needs a new name.

pocketvision train experiment=ssdlite_coco name=first data.root=/data/coco
"""

from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import TrainConfig
from pocketvision.datasets.sample import log_summary
from pocketvision.tools import build, runs
from pocketvision.tools.cli import command, log
from pocketvision.tools.engine import loop
from pocketvision.tools.engine.distributed import Ranks, start_ranks, stop_ranks
from pocketvision.tools.engine.report import table
from pocketvision.tools.engine.state import seed_everything
from pocketvision.tools.weights import describe


def train(config: DictConfig) -> dict[str, float]:
    """Train as `config` says; returns the last evaluation's results."""
    settings = build.train_settings(config)
    runs.check_same_run(Path(settings.run_dir), config)
    ranks = start_ranks(settings.device)
    try:
        return _train(config, settings, ranks)
    finally:
        stop_ranks()


def _train(config: DictConfig, settings: TrainConfig, ranks: Ranks) -> dict[str, float]:
    folder, batch = Path(settings.run_dir), build.micro_batch(settings, ranks)
    train_source = build.build_source(config, "train")
    sources = {"train": train_source, "val": train_source}
    if not settings.overfit:
        sources["val"] = build.build_source(config, "val", labels=train_source.labels)
    for source in sources.values():
        log_summary(source)
    seed_everything(settings.seed)  # the same initial weights on every rank
    task = build.build_task(config, labels=train_source.labels)
    if settings.weights and not (folder / "checkpoints" / "last.pt").exists():
        report = build.load_weights(task.model, settings.weights, source=settings.weights_source)
        log.info("weights=%s: %s", settings.weights, describe(report))
    seed_everything(settings.seed + ranks.rank)  # dropout differs between ranks

    train_loader = build.build_loader(
        build.build_dataset(config, sources["train"], training=True),
        batch_size=batch, ranks=ranks, workers=settings.workers, training=True, seed=settings.seed,
    )  # fmt: skip
    val_loader = build.build_loader(
        build.build_dataset(config, sources["val"], training=False),
        batch_size=settings.eval_batch_size, ranks=ranks, workers=settings.workers, training=False,
    )  # fmt: skip
    steps = len(train_loader) // settings.accumulate
    if steps == 0:
        raise ValueError(
            f"batch_size={settings.batch_size} is more than the {len(train_source)} training images: lower it"
        )
    run = loop.make_run(
        task, settings, ranks, folder=folder, header=runs.run_header(config, task.labels, task.kind),
        make_optimizer=build.optimizer_factory(config, settings), steps_per_epoch=steps,
    )  # fmt: skip
    if ranks.is_main:
        runs.save_config(folder, config)
    _announce(run, len(train_source), len(sources["val"]), steps)
    results = loop.fit(run, train_loader, val_loader)
    if results:
        log.info("done: %s\n%s", folder, table(results))
        log.info("next: pocketvision evaluate run=%s", folder)
    return results


def _announce(run: loop.Run, num_train: int, num_val: int, steps: int) -> None:
    parameters = sum(p.numel() for p in run.model.parameters())
    log.info(
        "%s: %d training and %d validation images, %d classes; %s parameters; %d epochs of %d steps on %s x %d",
        run.folder, num_train, num_val, run.task.labels.num_classes, f"{parameters:,}", run.config.epochs, steps,
        run.ranks.device, run.ranks.world,
    )  # fmt: skip


main = command("train", train)

if __name__ == "__main__":
    main()
