"""The subject of a benchmark: a network, or an exported file, and its photographs."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ...conf.schema import BenchmarkConfig
from ...datasets.loading.batches import Batch
from ..config import build
from ..config.settings import settings_of
from ..engine.distributed import pick_device
from ..predicting.predictor import Predictor
from ..runs.loaded import LoadedRun, load_run
from ..system.machine import pin_threads
from .lively import enliven
from .pictures import jpeg_bytes, make_photos, read_photos
from .variant import Spec


@dataclass(frozen=True)
class Setup:
    """Everything needed to rebuild a subject and its variants in another process."""

    config: DictConfig  # the benchmark's
    threads: int
    files: tuple[str, ...] = ()  # photographs; empty: synthetic
    specs: tuple[Spec, ...] = ()

    @cached_property
    def settings(self) -> BenchmarkConfig:
        return settings_of(self.config, BenchmarkConfig)


def check_subject(settings: BenchmarkConfig) -> None:
    """Raise ValueError if the keys name nothing to measure."""
    if settings.run or settings.file:
        return
    if lacking := [key for key in ("model", "data") if not getattr(settings, key)]:
        raise ValueError(
            f"nothing to measure: set run=FOLDER, file=MODEL.onnx, experiment=NAME, or {' and '.join(lacking)}=NAME"
        )
    if not settings.backbone:
        raise ValueError("model=NAME needs backbone=NAME")


class Subject:
    """A run, a network with random weights, or an exported file, and its photographs."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.settings = setup, setup.settings
        pin_threads(setup.threads)
        self.device = pick_device(self.settings.device)

    @cached_property
    def run(self) -> LoadedRun:
        """The network as loaded: channels_last, in evaluation mode.

        Raises:
            ValueError: there is neither a run nor a model, or its classes depend on data files.
        """
        min_score = self.settings.min_score
        run = self._loaded() if self.settings.run else self._fresh()
        if min_score is not None:
            if run.task.kind != "detection":
                raise ValueError(f"min_score={min_score} is for detection, not for {run.task.kind}: drop it")
            post: Any = replace(run.task.postprocess, min_score=min_score)  # pyright: ignore[reportArgumentType]
            run = replace(run, task=replace(run.task, postprocess=post))
        return run

    def _loaded(self) -> LoadedRun:
        settings = self.settings
        assert settings.run
        data: Any = OmegaConf.to_container(settings.data) if settings.data else None
        return load_run(settings.run, which=settings.checkpoint, device=self.device, data=data)

    def _fresh(self) -> LoadedRun:
        config = self.setup.config
        if build.data_tells_classes(config.data) and "datasets.shapes." not in config.data.train._target_:
            raise ValueError("this data group reads its classes from files: set data.num_classes=N")
        labels = build.build_source(config, "train").labels if build.data_tells_classes(config.data) else None
        task = build.build_task(config, labels=labels)
        size = config.data.eval_size or (192, 320)
        enliven(task.model, torch.from_numpy(np.stack(make_photos(4, size, seed=1))).permute(0, 3, 1, 2))
        task.model.to(self.device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
        return LoadedRun(task=task, config=config, folder=Path("."), path=Path(config.name), step=0)

    @cached_property
    def _read(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        if self.setup.files:
            return read_photos(self.setup.files, self.settings.batch_size)
        photos = make_photos(self.settings.batch_size, self.settings.photo_size)
        return photos, [jpeg_bytes(photo) for photo in photos]

    @property
    def photos(self) -> list[np.ndarray]:
        """`batch_size` photographs, uint8 RGB [H, W, 3]."""
        return self._read[0]

    @property
    def jpegs(self) -> list[np.ndarray]:
        """The bytes of their files."""
        return self._read[1]

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor(self.run)

    def prepare(self, photos: list[np.ndarray]) -> Batch:
        """The network's input, computed as in prediction."""
        return self._predictor.to_batch(photos)

    def training_images(self) -> Tensor:
        """uint8 [B, 3, h, w] of the training size, `data.input_size`."""
        size = self.run.config.data.input_size
        images = torch.from_numpy(np.stack(make_photos(self.settings.batch_size, size))).permute(0, 3, 1, 2)
        return images.to(self.device)
