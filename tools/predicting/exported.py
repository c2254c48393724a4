"""Exported files as predictors: the same call and the same results as a run's."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...backbones.postprocess import Ranking
from ...datasets.augmentation.policy import Transform
from ...datasets.augmentation.resize import prepare, resize_mask
from ...datasets.labels import LabelMap
from ...datasets.loading.augmented import AugmentedDataset
from ...detection.boxes import clip_to_images, original_limits, to_original
from ...detection.results import Detections
from ..config import build
from ..config.trusted import trusted
from ..engine.distributed import Ranks
from ..engine.task import Task
from ..system.console import progress
from .interface import FORMATS, Interface, Padding
from .predictor import Predictor, Result
from .runtimes import ExportedFile, open_file

Meta = Mapping[str, Any]


class ExportedPredictor(Predictor):
    """An exported file as a Predictor: `model("photo.jpg")` gives a Result.

    It works in three steps: `prepare`, `file.run` and `finish`.
    """

    def __init__(self, file: ExportedFile, *, data: Mapping[str, Any] | None = None) -> None:
        """`data` overrides keys of the data group, such as `root`.

        Raises:
            ValueError: the file's configuration is not a valid run configuration.
        """
        self.file = file
        self.interface = Interface.from_json(file.about["interface"])
        self.config = trusted(file.about["config"], data=data)
        self._crop_fraction = build.crop_fraction(self.config.data)
        self.labels = LabelMap.from_json(file.about["labels"])
        parts = build.task_parts(self.config.model, self.labels)
        self.task = Task(kind=self.interface.kind, model=nn.Identity(), labels=self.labels, **parts)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def batch(self) -> int | None:
        """The file's batch size; None means any."""
        return self.interface.batch

    def prepare(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The file's input for images [H, W, 3] uint8, and their metas.

        Raises:
            ValueError: an image does not have the file's input size.
        """
        interface = self.interface
        if interface.input == "network":
            size, resize = self.network_resize()
            pairs = [prepare(image, size, resize, crop_fraction=self._crop_fraction, exact=False) for image in images]
        else:
            pairs = [prepare(image, None, "none") for image in images]
        for image, meta in pairs:
            if interface.input_size is not None and image.shape[:2] != tuple(interface.input_size):
                raise ValueError(
                    f"{self.file.path} takes images of size {list(interface.input_size)} (h, w), but this one is "
                    f"{list(image.shape[:2])}: resize it, or export again with another input_size="
                )
            if interface.resizes:
                meta["input_size"] = tuple(interface.network_size or ())
        stacked = np.stack([image for image, _ in pairs])
        return self.arrange(torch.from_numpy(stacked).permute(0, 3, 1, 2)), [meta for _, meta in pairs]

    def network_resize(self) -> tuple[tuple[int, int] | None, str]:
        resize = self.config.data.resize
        return None if resize == "none" else self.interface.input_size, resize

    def arrange(self, images: Tensor) -> np.ndarray:
        """[B, 3, H, W] in the file's layout, padded to a full batch if the batch size is fixed."""
        if self.interface.input == "photo":
            images = images.permute(0, 2, 3, 1)
        lacking = (self.batch or 0) - len(images)
        if lacking > 0:
            images = torch.cat((images, images[-1:].expand(lacking, *images.shape[1:])))
        return np.ascontiguousarray(images.numpy())

    def finish(self, outputs: Mapping[str, np.ndarray], metas: Sequence[Meta]) -> list[Any]:
        """Each image's Detections, label map (uint8 tensor) or Ranking, in the image's own pixels."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in outputs.items()}
        kind, count = self.interface.kind, len(metas)
        if self.interface.outputs == "raw":
            raw: dict[str, Any] = {k: v if k == "anchors" else v[:count] for k, v in tensors.items()}
            if kind == "segmentation":
                raw["logits_size"] = Padding(**self.file.about["padding"]).padded(metas[0]["input_size"])
            return self.task.postprocess(raw, [dict(meta) for meta in metas])
        if kind == "classification":
            rows = zip(tensors["labels"][:count], tensors["scores"][:count], strict=True)
            return [Ranking(labels, scores) for labels, scores in rows]
        if kind == "segmentation":
            return [_own_pixels(found, meta) for found, meta in zip(tensors["label_map"], metas, strict=False)]
        if self.interface.input == "photo":
            return [Detections(tensors["boxes"], tensors["scores"], tensors["labels"])]
        return [self._detections(tensors, i, meta) for i, meta in enumerate(metas)]

    @staticmethod
    def _detections(tensors: Mapping[str, Tensor], index: int, meta: Meta) -> Detections:
        count = int(tensors["counts"][index])
        boxes = to_original(tensors["boxes"][index : index + 1, :count], [meta])
        boxes = clip_to_images(boxes, original_limits([meta], like=boxes))[0]
        return Detections(boxes, tensors["scores"][index, :count], tensors["labels"][index, :count])

    def predict_batch(self, images: Tensor, metas: Sequence[Meta]) -> list[Any]:
        """The results of `finish` for uint8 images [B, 3, H, W] of the file's input size."""
        if self.interface.resizes:
            metas = [{**meta, "input_size": tuple(self.interface.network_size or ())} for meta in metas]
        return self.finish(self.file.run(self.arrange(images)), metas)

    def _groups(self, images: list[tuple[np.ndarray, str | None]]) -> list[list[tuple[np.ndarray, str | None]]]:
        size = self.batch or max(1, len(images))
        return [images[start : start + size] for start in range(0, len(images), size)]

    def _predict(self, items: list[tuple[np.ndarray, str | None]]) -> list[Result]:
        array, metas = self.prepare([image for image, _ in items])
        found = self.finish(self.file.run(array), metas)
        return [self._result(image, path, item) for (image, path), item in zip(items, found, strict=True)]


def _own_pixels(found: Tensor, meta: Meta) -> Tensor:
    """A label map [h, w] of the network's input, resized to the image (nearest neighbor)."""
    left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
    height, width = found.shape
    if found.shape == tuple(meta["original_size"]):
        return found
    inner = found[top : height - bottom, left : width - right].numpy()
    return torch.from_numpy(resize_mask(np.ascontiguousarray(inner), meta["original_size"]))


def load_file(
    path: str | Path, *, threads: int = 0, precision: str | None = None, data: Mapping[str, Any] | None = None
) -> ExportedPredictor:
    """Load an exported file, ready for `model("photo.jpg")`; see `open_file`."""
    return ExportedPredictor(open_file(path, threads=threads, precision=precision), data=data)


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported file rather than a run or a checkpoint."""
    return Path(path).suffix.lower() in FORMATS.values()


def evaluate_file(model: ExportedPredictor, source: Any, *, batch_size: int, workers: int) -> dict[str, float]:
    """Compute the metrics of a file's predictions on a dataset; an exported file has no loss."""
    metric = model.task.metric
    metric.reset()
    for batch in _batches(model, source, batch_size, workers):
        metric.update(model.predict_batch(batch.images, batch.metas), batch.targets, batch.metas)
    return metric.compute()


def _batches(model: ExportedPredictor, source: Any, batch_size: int, workers: int) -> Iterable[Any]:
    if model.interface.input == "photo":
        transform = Transform([], input_size=None, resize="none")
    else:
        size, resize = model.network_resize()
        transform = Transform([], input_size=size, resize=resize, crop_fraction=model._crop_fraction)
    dataset = AugmentedDataset(source, transform=transform, ground_truth=True)
    ranks = Ranks(0, 1, torch.device("cpu"))
    loader = build.build_loader(
        dataset, batch_size=model.batch or batch_size, ranks=ranks, workers=workers, training=False
    )
    return progress(loader, total=len(loader), title="evaluating")
