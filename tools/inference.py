"""A trained run as a callable: photographs in; boxes or label maps in their own pixels, or classes, out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.decode import decode_image
from ..datasets.labels import IGNORE, LabelMap
from ..datasets.loading import collate
from ..datasets.transforms import prepare
from . import drawing
from .build import crop_fraction
from .runs import LoadedRun, check_optimize, load_published, load_run, published_config

Image = str | Path | np.ndarray
NUM_TOP = 5  # classes that a classifier's result shows


@dataclass(frozen=True)
class Result:
    """What a model says about one image, in that image's pixels. A detector fills boxes, a segmenter the mask.

    A classifier fills `labels` and `scores`, all classes and their probabilities.
    """

    image: np.ndarray  # uint8 [H, W, 3] RGB
    label_map: LabelMap
    path: str | None = None
    boxes: np.ndarray | None = None  # float32 [N, 4] xyxy, best first
    scores: np.ndarray | None = None  # float32 [N], best first
    labels: np.ndarray | None = None  # int64 [N], slots
    mask: np.ndarray | None = None  # uint8 [H, W], slots

    @property
    def names(self) -> list[str]:
        """Class name of each box, of each class that the mask shows, or of all classes, the most probable first."""
        slots = np.unique(self.mask) if self.mask is not None else self.labels
        assert slots is not None
        names = {IGNORE: "ignored"} | self.label_map.names  # of a network with an output for void
        return [names.get(int(slot), f"slot {slot}") for slot in slots]

    def draw(self, *, score_threshold: float = 0.5) -> np.ndarray:
        """The image with boxes above the threshold, the mask, or a caption of the best classes; uint8 RGB."""
        colors = drawing.class_colors(self.label_map)
        if self.mask is not None:
            return drawing.draw_mask(self.image, self.mask, colors, names=self.label_map.names)
        assert self.scores is not None
        assert self.labels is not None
        if self.boxes is None:
            return drawing.draw_caption(self.image, [f"{name} {p:.2f}" for name, p in self.top()])
        shown = self.scores >= score_threshold
        return drawing.draw_detections(
            self.image, self.boxes[shown], self.labels[shown], self.scores[shown], self.label_map.names, colors=colors
        )

    def top(self, count: int = NUM_TOP) -> list[tuple[str, float]]:
        """The most probable classes of a classifier, with their probabilities."""
        assert self.scores is not None
        return [(name, float(p)) for name, p in zip(self.names, self.scores, strict=True)][:count]

    def to_json(self, *, score_threshold: float = 0.0) -> dict[str, Any]:
        """Plain numbers: COCO-like boxes (xywh, the data's category ids), shares of pixels, or the top 5 classes."""
        height, width = self.image.shape[:2]
        entry: dict[str, Any] = {"file": self.path, "height": height, "width": width}
        if self.mask is not None:
            shares = np.unique(self.mask, return_counts=True)[1] / self.mask.size
            return entry | {"classes": {n: round(float(s), 6) for n, s in zip(self.names, shares, strict=True)}}
        assert self.scores is not None
        assert self.labels is not None
        if self.boxes is None:
            return entry | {"top": [{"class": name, "probability": round(p, 5)} for name, p in self.top()]}
        rows = []
        for box, score, slot, name in zip(self.boxes, self.scores, self.labels, self.names, strict=True):
            if score >= score_threshold:
                x1, y1, x2, y2 = (round(float(v), 2) for v in box)
                rows.append({
                    "category_id": self.label_map.source_ids.get(int(slot), int(slot)), "category": name,
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)], "score": round(float(score), 5),
                })  # fmt: skip
        return entry | {"detections": rows}


class Predictor:
    """`predictor("photo.jpg")` gives a Result; a list gives a list, in batches where sizes agree."""

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        self.task = run.task
        self.labels = run.task.labels
        size = run.config.data.eval_size
        self._size = None if size is None else (int(size[0]), int(size[1]))
        self._resize, self._crop_fraction = run.config.data.resize, crop_fraction(run.config)

    @property
    def device(self) -> torch.device:
        return next(self.task.model.parameters()).device

    def __call__(self, images: Image | Sequence[Image]) -> Any:
        """Result of one image (a path, or uint8 RGB [H, W, 3]), or a list of them for a sequence.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it does not decode, or an array is not uint8 RGB.
        """
        if isinstance(images, str | Path | np.ndarray):
            return self([images])[0]
        results: list[Result] = []
        read = [(self.read(image), None if isinstance(image, np.ndarray) else str(image)) for image in images]
        for group in self._groups(read):
            results += self._predict(group)
        return results

    @staticmethod
    def read(image: Image) -> np.ndarray:
        """Decode a file, or check an array: uint8 RGB [H, W, 3]."""
        if not isinstance(image, np.ndarray):
            return decode_image(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image array must be uint8 RGB [H, W, 3]; got {image.dtype} {list(image.shape)}")
        return image

    def _groups(self, images: list[tuple[np.ndarray, str | None]]) -> list[list[tuple[np.ndarray, str | None]]]:
        """Neighbours that have one input size."""
        if self._size is not None and self._resize != "shorter":
            return [images] if images else []
        groups: list[list[tuple[np.ndarray, str | None]]] = []
        for item in images:
            if groups and groups[-1][0][0].shape == item[0].shape:
                groups[-1].append(item)
            else:
                groups.append([item])
        return groups

    @torch.inference_mode()
    def _predict(self, items: list[tuple[np.ndarray, str | None]]) -> list[Result]:
        fraction = self._crop_fraction
        prepared = [prepare(image, self._size, self._resize, crop_fraction=fraction) for image, _ in items]
        tensors = [
            (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), {}, meta) for image, meta in prepared
        ]
        batch = collate(tensors).to(self.device)
        found = self.task.postprocess(self.task.model(batch.images), batch.metas)
        return [self._result(image, path, item) for (image, path), item in zip(items, found, strict=True)]

    def _result(self, image: np.ndarray, path: str | None, found: Any) -> Result:
        if self.task.kind == "segmentation":
            return Result(image, self.labels, path, mask=found.cpu().numpy())
        if self.task.kind == "classification":
            scores, labels = found.scores.cpu().numpy(), found.labels.cpu().numpy()
            return Result(image, self.labels, path, scores=scores, labels=labels)
        return Result(
            image, self.labels, path,
            boxes=found.boxes.cpu().numpy(), scores=found.scores.cpu().numpy(), labels=found.labels.cpu().numpy(),
        )  # fmt: skip


def load(
    run: str | Path,
    *,
    checkpoint: str = "best",
    weights: str | Path | None = None,
    source: str = "pocketvision",
    overrides: Sequence[str] = (),
    device: str = "cpu",
    optimize: bool = False,
    precision: str = "fp32",
    compile: bool = False,
) -> Predictor:
    """The model of a training run (folder or checkpoint file), a published network, or an exported file.

    Args:
        weights: others' weights, a file of `source` or a name; `run` is then a published network (`conf/public/`).
        overrides: keys of that network's configuration, e.g. `["backbone=mobilenet_v3_small"]`.
        optimize: fold batch norms into convolutions: faster, the same outputs.
        precision: "bf16" with `optimize`, faster yet where the processor has it.
        compile: torch.compile, with `optimize`; the first image of a size takes seconds.

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: it cannot be read, does not fit, or there is no such published network; `precision` or `compile`
            without `optimize`, or one of the three for an exported file.
    """
    from .exported import is_exported, load_file  # which builds on what stands above

    exported = is_exported(run)
    check_optimize(optimize, precision, compile, file=run if exported else None)
    if exported:
        return load_file(run)
    if weights is None:
        loaded = load_run(run, which=checkpoint, device=device)
    else:
        config = published_config(str(run), overrides)
        config.weights, config.weights_source = str(weights), source
        loaded = load_published(config, device=device)
    return Predictor(loaded.optimized(precision=precision, compile=compile) if optimize else loaded)
