"""The variants of one subject: ours, torchvision's, an exported file; and training steps."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...detection.results import Detections
from ..predicting.exported import load_file
from .peer import make_peer, normalization
from .pictures import make_targets
from .subject import Subject
from .variant import Spec, Stage, Variant


def make_variant(subject: Subject, spec: Spec) -> Variant:
    """The variant for `spec`, ready to be called.

    Raises:
        ValueError: this subject has no such variant.
    """
    if spec.side == "file":
        return _file(subject, spec)
    training = subject.settings.training
    if spec.side == "pocketvision":
        return (_training if training else _ours)(subject, spec)
    peer = make_peer(subject.run, training=training)  # refuses other tasks
    return _PEERS[subject.run.task.kind, training](subject, spec, peer)


def _stages(pre: Stage, network: Stage, post: Stage) -> dict[str, Stage]:
    return {"pre-process": pre, "network": network, "post-process": post}


def _ours(subject: Subject, spec: Spec) -> Variant:
    run = subject.run
    if spec.optimize:
        run = run.optimized(precision=spec.precision, compile=spec.compile)
    model, postprocess = run.task.model, run.task.postprocess

    def network(batch: Any) -> tuple[Any, Any]:
        return model(batch.images), batch.metas

    def post(made: Any) -> Any:
        return postprocess(*made)

    return Variant(spec, run.task.kind, _stages(subject.prepare, network, post), subject.photos, results=list)


def _file(subject: Subject, spec: Spec) -> Variant:
    """An exported file: photographs go in batches of its size; everything inside it counts as network."""
    assert spec.file is not None
    model = load_file(spec.file, threads=subject.setup.threads, precision=spec.precision)

    def pre(photos: Sequence[np.ndarray]) -> list[Any]:
        size = model.batch or len(photos)
        return [model.prepare(photos[start : start + size]) for start in range(0, len(photos), size)]

    def network(parts: list[Any]) -> list[Any]:
        return [(model.file.run(array), metas) for array, metas in parts]

    def post(parts: list[Any]) -> list[Any]:
        return [found for outputs, metas in parts for found in model.finish(outputs, metas)]

    return Variant(spec, model.interface.kind, _stages(pre, network, post), subject.photos, results=list)


# ---- torchvision -----------------------------------------------------------------------------------------


def _detection_peer(subject: Subject, spec: Spec, model: Any) -> Variant:
    def tensors(photos: Sequence[np.ndarray]) -> list[Tensor]:
        return [torch.from_numpy(photo).to(subject.device).permute(2, 0, 1) / 255.0 for photo in photos]

    def pre(photos: Sequence[np.ndarray]) -> Any:
        return model.transform(tensors(photos))[0]

    def network(images: Any) -> Any:
        features = list(model.backbone(images.tensors).values())
        return model.head(features), model.anchor_generator(images, features), images.image_sizes

    def post(made: Any) -> Any:
        sizes = [photo.shape[:2] for photo in subject.photos]
        return model.transform.postprocess(model.postprocess_detections(*made), made[2], sizes)

    def results(found: Any) -> list[Detections]:
        return [Detections(one["boxes"], one["scores"], one["labels"]) for one in found]

    stages = _stages(pre, network, post)
    return Variant(spec, "detection", stages, subject.photos, results, whole=lambda photos: model(tensors(photos)))


def _segmentation_peer(subject: Subject, spec: Spec, model: Any) -> Variant:
    mean, std = normalization(subject.run)
    size, data = subject.photos[0].shape[:2], subject.run.config.data
    if any(photo.shape[:2] != size for photo in subject.photos):
        raise ValueError(
            "peer=torchvision needs a batch of photographs of one size, but those in photos= differ: set batch_size=1"
        )
    inner = size if data.resize == "none" else tuple(data.eval_size)

    def resized(images: Tensor, to: Any) -> Tensor:
        same = tuple(images.shape[-2:]) == tuple(to)
        return images if same else F.interpolate(images, size=tuple(to), mode="bilinear", align_corners=False)

    def pre(photos: Sequence[np.ndarray]) -> Tensor:
        images = [torch.from_numpy(photo).to(subject.device).permute(2, 0, 1)[None] / 255.0 for photo in photos]
        return _batched(
            [((resized(image, inner) - mean) / std)[0] for image in images], channels_last=spec.channels_last
        )

    def network(images: Tensor) -> Tensor:
        return model.classifier(model.backbone(images))

    def post(logits: Tensor) -> Tensor:
        return resized(resized(logits, inner), size).argmax(1)

    def whole(photos: Sequence[np.ndarray]) -> Tensor:
        return resized(model(pre(photos))["out"], size).argmax(1)

    def results(maps: Tensor) -> list[Tensor]:
        return [one.to(torch.uint8) for one in maps]

    return Variant(spec, "segmentation", _stages(pre, network, post), subject.photos, results, whole=whole)


def _batched(images: Sequence[Tensor], *, channels_last: bool) -> Tensor:
    """Batch as in torchvision's documentation: `unsqueeze(0)` or `stack`.

    Convolutions treat both as NCHW. One photograph may look different: `is_contiguous` reports channels_last, but
    its batch dimension has a stride that convolutions do not recognize; only a copy has the right one.
    """
    batch = images[0].unsqueeze(0) if len(images) == 1 else torch.stack(list(images))
    return batch.clone(memory_format=torch.channels_last) if channels_last else batch


# ---- training --------------------------------------------------------------------------------------------


def _targets(subject: Subject) -> list[dict[str, Tensor]]:
    task = subject.run.task
    targets = make_targets(task.kind, task.labels.num_classes, subject.training_images())
    return [{key: value.to(subject.device) for key, value in target.items()} for target in targets]


def _training(subject: Subject, spec: Spec) -> Variant:
    task, targets = subject.run.task, _targets(subject)
    model = copy.deepcopy(task.model).train().requires_grad_(True)
    network = torch.compile(model) if spec.compile else model
    images = subject.training_images()

    def loss() -> Tensor:
        with torch.autocast(subject.device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
            outputs = network(images)
        return torch.stack(list(task.criterion(outputs, targets).values())).sum()

    return _step(spec, model, loss, fused=True)


def _detection_training(subject: Subject, spec: Spec, model: Any) -> Variant:
    images = subject.training_images()
    truth = [{key: target[key] for key in ("boxes", "labels")} for target in _targets(subject)]
    return _step(spec, model, lambda: sum(model([image / 255.0 for image in images], truth).values()))


def _segmentation_training(subject: Subject, spec: Spec, model: Any) -> Variant:
    images, (mean, std) = subject.training_images(), normalization(subject.run)
    masks = torch.stack([target["mask"] for target in _targets(subject)]).long()
    # torchvision's reference collate function produces NCHW.
    images = images.clone(memory_format=torch.channels_last if spec.channels_last else torch.contiguous_format)
    return _step(
        spec, model, lambda: F.cross_entropy(model((images / 255.0 - mean) / std)["out"], masks, ignore_index=255)
    )


_PEERS = {  # by task, and whether it is to be trained
    ("detection", False): _detection_peer,
    ("detection", True): _detection_training,
    ("segmentation", False): _segmentation_peer,
    ("segmentation", True): _segmentation_training,
}


def _step(spec: Spec, model: nn.Module, loss: Callable[[], Any], *, fused: bool | None = None) -> Variant:
    """One optimizer step. With a learning rate of 0 everything is computed, but every step sees the same weights."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, fused=fused)

    def forward(_: Any) -> Tensor:
        optimizer.zero_grad()
        return loss()

    def backward(value: Tensor) -> Tensor:
        value.backward()
        return value.detach()

    def update(value: Tensor) -> Tensor:
        optimizer.step()
        return value

    stages = {"forward": forward, "backward": backward, "optimizer": update}
    return Variant(spec, "training", stages, None, results=lambda value: [float(value)])
