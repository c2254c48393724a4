"""Exported files as predictors: the same call and the same results as a run's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...absent import Results
from ...backbones.postprocess import Ranking
from ...datasets.augmentation.policy import Transform
from ...datasets.augmentation.resize import prepare, resize_mask
from ...datasets.labels import LabelMap
from ...datasets.loading.augmented import AugmentedDataset
from ...detection.boxes import clip_to_images, original_limits, to_original
from ...detection.results import Detections
from ...segmentation.postprocess import without_padding
from ...words import counted
from ..config import build
from ..config.foreign import building
from ..config.trusted import trusted
from ..engine.distributed import Ranks
from ..engine.task import Task
from ..system.console import progress
from .formats import ENDINGS
from .interface import Interface, Padding
from .mediapipe import as_raw
from .predictor import Item, Predictor
from .runtimes import ExportedFile, open_file


class ExportedPredictor(Predictor):
    """An exported file as a Predictor: `model("photo.jpg")` gives a Result.

    It works in three steps: `prepare`, `file.run` and `finish`.
    """

    def __init__(self, file: ExportedFile, *, data: Mapping[str, Any] | None = None) -> None:
        """`data` overrides keys of the data group, such as `root`.

        Raises:
            ValueError: the file's configuration is not a valid run configuration.
        """
        self.file, self.padding = file, Padding(1, 0)
        with building(
            f"{file.path} has metadata of another version (or is damaged: export it again)", with_own=bool(data)
        ):
            self.interface = Interface.from_json(file.about["interface"])
            if self.interface.kind == "segmentation" and self.interface.outputs == "raw":
                self.padding = Padding.from_json(file.about["padding"])
            self.anchors = torch.tensor(file.about.get("anchors", []), dtype=torch.float32).reshape(-1, 4)
            self.config = trusted(file.about["config"], data=data)
            if self.config.model.task != self.interface.kind:
                raise ValueError(f"the configuration is for {self.config.model.task!r:.40}")
            self.crop_fraction = build.crop_fraction(self.config.data)
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
        size, resize = self.resizing
        pairs = [prepare(image, size, resize, crop_fraction=self.crop_fraction, exact=False) for image in images]
        for image, _ in pairs:
            self._check_size(image.shape[:2])
        stacked = np.stack([image for image, _ in pairs])
        return self.arrange(torch.from_numpy(stacked).permute(0, 3, 1, 2)), [meta for _, meta in pairs]

    @property
    def resizing(self) -> tuple[tuple[int, int] | None, str]:
        """The size and the kind of the resize before the file."""
        resize = "none" if self.interface.input == "photo" else self.config.data.resize
        return None if resize == "none" else self.interface.input_size, resize

    def _check_size(self, found: tuple[int, ...]) -> None:
        size = self.interface.input_size
        if size is not None and tuple(found) != size:
            raise ValueError(
                f"{self.file.path} takes images of size {list(size)} (h, w), but this one is {list(found)}: resize it, "
                "or export again with another input_size="
            )

    def arrange(self, images: Tensor) -> np.ndarray:
        """uint8 [B, 3, H, W] in the file's layout and dtype, padded to a full batch if the batch size is fixed.

        Raises:
            ValueError: they do not have the file's input size.
        """
        self._check_size(images.shape[2:])
        if self.interface.is_channels_last:
            images = images.permute(0, 2, 3, 1)
        lacking = (self.batch or 0) - len(images)
        if lacking > 0:
            images = torch.cat((images, images[-1:].expand(lacking, *images.shape[1:])))
        array = np.ascontiguousarray(images.numpy())
        return array / np.float32(255) if self.interface.dtype == "float32" else array

    def finish(self, outputs: Mapping[str, np.ndarray], metas: Sequence[dict[str, Any]]) -> list[Any]:
        """Each image's Detections, label map (uint8 tensor) or Ranking, in the image's own pixels.

        Raises:
            ValueError: the file gives other outputs than its metadata says.
        """
        try:
            found = self._finish(outputs, metas)
            for one in found:
                _check_values(one, self.task.labels.num_classes)
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            told = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"{self.file.path} gives other outputs than it should ({told:.200}): corrupt?") from error
        return found

    def _finish(self, outputs: Mapping[str, np.ndarray], metas: Sequence[dict[str, Any]]) -> list[Any]:
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in outputs.items()}
        kind, count = self.interface.kind, len(metas)
        if self.interface.resizes:
            metas = [{**meta, "input_size": self.interface.network_size} for meta in metas]
        if self.interface.outputs == "mediapipe":
            tensors = as_raw(tensors, softmax=getattr(self.task.postprocess, "activation", "") == "softmax")
        if self.interface.outputs != "final":
            raw: dict[str, Any] = {k: v if k == "anchors" else v[:count] for k, v in tensors.items()}
            if kind == "detection" and self.interface.portable:
                raw["anchors"] = self.anchors
            if kind == "segmentation":
                raw["logits_size"] = self.padding.padded(metas[0]["input_size"])
            return self.task.postprocess(raw, list(metas))
        if kind == "classification":
            rows = zip(tensors["labels"][:count].long(), tensors["scores"][:count], strict=True)
            return [Ranking(labels, scores) for labels, scores in rows]
        if kind == "segmentation":
            return [_own_pixels(found, meta) for found, meta in zip(tensors["label_map"], metas, strict=False)]
        if not self.interface.is_padded:
            return [Detections(tensors["boxes"], tensors["scores"], tensors["labels"])]
        return [self._detections(tensors, i, meta) for i, meta in enumerate(metas)]

    def _detections(self, tensors: Mapping[str, Tensor], index: int, meta: dict[str, Any]) -> Detections:
        count = int(tensors["counts"][index])
        boxes = tensors["boxes"][index : index + 1, :count]
        if self.interface.input != "photo":
            boxes = to_original(boxes, [meta])
            boxes = clip_to_images(boxes, original_limits([meta], like=boxes))
        return Detections(boxes[0], tensors["scores"][index, :count], tensors["labels"][index, :count].long())

    def _groups(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        size = self.batch or max(1, len(items))
        return (items[start : start + size] for start in range(0, len(items), size))

    def _find(self, images: Sequence[np.ndarray]) -> list[Any]:
        array, metas = self.prepare(images)
        return self.finish(self.file.run(array), metas)


def _check_values(found: Any, num_classes: int) -> None:
    """Raise ValueError for values that no network of ours gives."""
    if isinstance(found, Tensor):
        return  # a label map: what is no class in it counts as none
    numbers = [found.scores, *([found.boxes] if isinstance(found, Detections) else [])]
    if not all(bool(value.isfinite().all()) for value in numbers):
        raise ValueError("some of its numbers are not finite")
    highest = num_classes if isinstance(found, Detections) else num_classes - 1
    if len(found.labels) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) <= highest:
        raise ValueError(f"it names other classes than its {counted(num_classes, 'class')}")


def _own_pixels(found: Tensor, meta: dict[str, Any]) -> Tensor:
    """A label map [h, w] of the network's input, resized to the image (nearest neighbor)."""
    if found.shape == tuple(meta["original_size"]):
        return found
    return torch.from_numpy(resize_mask(without_padding(found, meta).contiguous().numpy(), meta["original_size"]))


def load_file(
    path: str | Path, *, threads: int = 0, precision: str | None = None, data: Mapping[str, Any] | None = None
) -> ExportedPredictor:
    """Load an exported file, ready for `model("photo.jpg")`; see `open_file`."""
    return ExportedPredictor(open_file(path, threads=threads, precision=precision), data=data)


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported file rather than a run or a checkpoint."""
    return Path(path).suffix.lower() in ENDINGS


def evaluate_file(model: ExportedPredictor, source: Any, *, batch_size: int, workers: int) -> Results:
    """Compute the metrics of a file's predictions on a dataset; an exported file has no loss."""
    size, resize = model.resizing
    transform = Transform([], input_size=size, resize=resize, crop_fraction=model.crop_fraction)
    dataset = AugmentedDataset(source, transform=transform, ground_truth=True)
    loader = build.build_loader(
        dataset, batch_size=model.batch or batch_size, ranks=Ranks(0, 1, model.device), workers=workers, training=False
    )
    metric = model.task.metric
    metric.reset()
    for batch in progress(loader, total=len(loader), title="evaluating"):
        found = model.finish(model.file.run(model.arrange(batch.images)), batch.metas)
        metric.update(found, batch.targets, batch.metas)
    return metric.compute()
