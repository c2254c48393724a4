"""Train a detector, segmenter or classifier; run the same command again to resume.

pocketvision train experiment=demo_detection
pocketvision train experiment=ssdlite_coco name=first data.root=/data/coco
torchrun --nproc_per_node=8 -m pocketvision train experiment=ssdlite_coco data.root=/data/coco precision=bf16

Use another name= to start over. More examples:

  pocketvision train experiment=lraspp_cityscapes name=first data.root=/data/cityscapes batch_size=8
  pocketvision train experiment=imagenet_v3_large name=first data.root=/data/imagenet
"""

from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.absent import Results
from pocketvision.conf.schema import TrainConfig
from pocketvision.datasets.annotations.sample import Source, log_summary
from pocketvision.datasets.checking.learnable import absent_in_validation, check_learnable, shared_images
from pocketvision.datasets.loading.augmented import AugmentedDataset, FirstSamples
from pocketvision.datasets.loading.batches import Batch, collate
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.config.hints import crop_hint
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing import annotate
from pocketvision.tools.drawing.pictures import draw_truth, to_picture, write_image
from pocketvision.tools.engine import loop
from pocketvision.tools.engine.distributed import Ranks, start_ranks, stop_ranks
from pocketvision.tools.engine.optim import epochs_for
from pocketvision.tools.engine.replay import replay
from pocketvision.tools.engine.run import Run, make_run
from pocketvision.tools.engine.state import seed_everything
from pocketvision.tools.engine.task import Task
from pocketvision.tools.quantizing.training import check_quantize, epochs_for_steps, quantized, resumed, to_save
from pocketvision.tools.runs.fitting import task_with_weights
from pocketvision.tools.runs.folder import check_same_run, has_checkpoint, lock, run_header, save_config
from pocketvision.tools.runs.loaded import check_weights
from pocketvision.tools.system.caching import cached
from pocketvision.tools.system.console import log, logged_to, table
from pocketvision.words import counted
from torch.autograd import set_detect_anomaly


def train(config: DictConfig) -> Results:
    """Train with `config`; returns the results of the last evaluation.

    Raises:
        SystemExit: SIGTERM or Ctrl-C; the run is saved.
        FloatingPointError: a loss or gradient was not finite.
    """
    settings = settings_of(config, TrainConfig)
    build.check_backbone(settings.model, settings.backbone)
    build.mosaic_share(settings.augment, settings.data)
    folder = Path(settings.run_dir)
    check_quantize(settings)
    check_same_run(folder, config)
    check_weights(settings.weights)
    ranks = start_ranks(settings.device, timeout_minutes=settings.timeout_minutes)
    try:
        locked = lock(folder) if ranks.is_main else nullcontext()
        kept = logged_to(folder / "train.log", once=folder / "config.yaml") if ranks.is_main else nullcontext()
        with ranks.peer_failures_told(), locked, kept, set_detect_anomaly(settings.debug):
            return _train(config, settings, ranks)
    finally:
        stop_ranks()


def _train(config: DictConfig, settings: TrainConfig, ranks: Ranks) -> Results:
    batch = build.micro_batch(settings, ranks)  # report errors in the command before reading any data
    sources = _sources(config, settings)
    for source in sources.values():
        log_summary(source)
    _check_truth(sources, settings, ranks)
    with cached(
        settings.cache, sources, run=settings.run_dir, folder=settings.cache_folder,
        reduced=settings.reduced_decode, tell=ranks.is_main,
    ):  # fmt: skip
        return _train_on(sources, batch, config, settings, ranks)


def _train_on(
    sources: dict[str, Source], batch: int, config: DictConfig, settings: TrainConfig, ranks: Ranks
) -> Results:
    folder = Path(settings.run_dir)
    seed_everything(settings.seed)  # the same initial weights on every rank
    task = _task(config, settings, sources["train"])
    seed_everything(settings.seed + ranks.rank)  # dropout differs between ranks

    train_data = build.build_dataset(config, sources["train"], training=True)
    train_loader = build.build_loader(
        train_data, batch_size=batch, ranks=ranks, workers=settings.workers, training=True, seed=settings.seed
    )
    val_loader = build.build_loader(
        build.build_dataset(config, sources["val"], training=False),
        batch_size=settings.eval_batch_size, ranks=ranks, workers=settings.workers, training=False,
    )  # fmt: skip
    steps = len(train_loader) // settings.accumulate
    if steps == 0:
        raise ValueError(f"batch_size={settings.batch_size} exceeds the {len(train_data)} training images: reduce it")
    epochs = settings.epochs or (epochs_for_steps(steps) if settings.quantize else epochs_for(len(train_data)))
    header = run_header(config, task.labels, task.kind, sources, epochs) | to_save(task)
    run = make_run(
        task, settings, ranks, folder=folder, header=header,
        make_optimizer=build.optimizer_factory(settings), epochs=epochs, steps_per_epoch=steps,
    )  # fmt: skip
    if settings.replay:
        return _replay(run, train_data)
    if ranks.is_main:
        save_config(folder, config)
    _announce(run, len(train_data), len(sources["val"]), steps)
    if ranks.is_main and (hint := crop_hint(settings.data, sources["train"])):
        log.warning("%s", hint)
    if settings.debug:
        _draw_batch(run, next(iter(train_loader)), "batch.png")
    results = loop.fit(run, train_loader, val_loader)
    if results:
        log.info("done: %s\n%s", folder, table(results))
        if not settings.debug:
            log.info("next: pocketvision evaluate run=%s", folder)
    return results


def _task(config: DictConfig, settings: TrainConfig, source: Source) -> Task:
    """The task at the start of a run, or for the weights of its checkpoint."""
    folder = Path(settings.run_dir)
    resumes = has_checkpoint(folder)
    if settings.weights and not resumes:
        task = task_with_weights(config, source.labels)
    else:
        task = build.build_task(config, labels=source.labels)
    if not settings.quantize:
        return task
    return resumed(task, folder) if resumes else quantized(task, config, source)


def _sources(config: DictConfig, settings: TrainConfig) -> dict[str, Source]:
    train_source = build.build_source(config, "train")
    if settings.overfit:
        return {"train": train_source, "val": train_source}
    val_source = build.build_source(config, "val", labels=train_source.labels)
    if settings.debug:
        val_source = FirstSamples(val_source, settings.eval_batch_size, spread=config.data.task == "classification")
    return {"train": train_source, "val": val_source}


def _check_truth(sources: dict[str, Source], settings: TrainConfig, ranks: Ranks) -> None:
    """Raise ValueError on every rank if there is nothing to learn; warn of what is missing.

    Only the main rank looks, and only where a run begins: it decodes masks.
    """
    fault = None
    if ranks.is_main and not has_checkpoint(Path(settings.run_dir)):
        try:
            warnings = check_learnable(sources["train"], task=settings.data.task)
            if sources["val"] is not sources["train"]:
                warnings += absent_in_validation(sources["val"]) + shared_images(sources["train"], sources["val"])
            for warning in warnings:
                log.warning("%s", warning)
        except ValueError as error:
            fault = str(error)
    if found := ranks.gather(fault)[0]:
        raise ValueError(found)


def _replay(run: Run, dataset: AugmentedDataset) -> Results:
    """Print and draw the step that stopped the run."""
    for number, (batch, lines) in enumerate(replay(run, dataset, collate)):
        for line in lines:
            log.info("%s", line)
        if batch is not None:
            _draw_batch(run, batch, f"replay-{number}.png")
    return {}


def _draw_batch(run: Run, batch: Batch, name: str) -> None:
    """Draw a batch as the network sees it, with its ground truth."""
    if run.ranks.is_main:
        batch = batch.to("cpu")
        drawn = [
            draw_truth(to_picture(image), target, run.task.labels)
            for image, target in zip(batch.images, batch.targets, strict=True)
        ]
        write_image(run.folder / name, annotate.grid(drawn, 4))
        log.info("batch as the network sees it: %s", run.folder / name)


def _announce(run: Run, num_train: int, num_val: int, steps: int) -> None:
    parameters = sum(p.numel() for p in run.model.parameters())
    log.info(
        "%s: %s and %s, %s, %s parameters; %s of %s on %s x %d", run.folder, counted(num_train, "training image"),
        counted(num_val, "validation image"), counted(run.task.labels.num_classes, "class"), f"{parameters:,}",
        counted(run.epochs, "epoch"), counted(steps, "step"), run.ranks.device, run.ranks.world,
    )  # fmt: skip


main = command("train", train)

if __name__ == "__main__":
    main()
