"""Albumentations policies on samples, and the one resize that training, evaluation and prediction share."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from .labels import IGNORE
from .sample import Pending, Sample

FILL = (128, 128, 128)  # what padding looks like: the mean, which normalisation turns into (nearly) zero
RESIZES = ("stretch", "letterbox", "shorter", "center_crop", "none")
CROP_FRACTION = 0.875


def resize_bilinear(image: np.ndarray, size: tuple[int, int], *, exact: bool = False) -> np.ndarray:
    """[H, W, 3] uint8 to `size` (h, w): half-pixel bilinear without antialias, uint8 or (`exact`) float32 in 0..255.

    The grid of torch's interpolate(align_corners=False, antialias=False), which torchvision's detector uses: equal to
    it in float32, within 0.8 grey levels as uint8. That rounding costs: 5 to 7 % of a trained detector's boxes left
    torchvision's by more than IoU 0.95 or a score of 0.02. So evaluation and prediction are exact; training, whose
    augmentation changes far more, moves a quarter of the bytes.
    """
    if exact:
        image = image.astype(np.float32)
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W] to `size` by the nearest pixel centre (cv2.INTER_NEAREST would be half a pixel off the image)."""
    if mask.shape[:2] == tuple(size):
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def center_crop(image: np.ndarray, fraction: float) -> np.ndarray:
    """The middle `fraction` of both sides, with tf.image.central_crop's rounding: margins rounded down."""
    top, left = (int((side - side * fraction) / 2) for side in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def prepare(
    image: np.ndarray,
    input_size: tuple[int, int] | None,
    resize: str = "stretch",
    *,
    crop_fraction: float = CROP_FRACTION,
    exact: bool = True,
) -> tuple[np.ndarray, dict[str, Any]]:
    """An RGB image as the model takes it, and its meta: original_size, input_size, pad (left, top, right, bottom).

    With an `input_size`, `exact` gives float32 in 0..255, not rounded after the resize; otherwise uint8. "center_crop"
    stretches the middle `crop_fraction` of both sides, TF-slim's evaluation on ImageNet.
    """
    check_resize(input_size, resize)
    inner, pad = fitted(image.shape[:2], input_size, resize)
    seen = center_crop(image, crop_fraction) if resize == "center_crop" else image
    resized = pad_image(resize_bilinear(seen, inner, exact=exact and input_size is not None), pad, FILL)
    return resized, {"original_size": image.shape[:2], "input_size": resized.shape[:2], "pad": pad}


def pad_image(image: np.ndarray, pad: tuple[int, int, int, int], fill: int | tuple[int, ...]) -> np.ndarray:
    """Pad by (left, top, right, bottom) with a constant."""
    if not any(pad):
        return image
    left, top, right, bottom = pad
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)


class Transform:
    """An albumentations policy, then the resize. The policy [] with `exact` is the evaluation path.

    `resize`: "stretch" to `input_size` (h, w), "letterbox" (keeps the aspect, pads right and bottom), "shorter" (keeps
    the aspect, `input_size` is the least; such images differ in size), "center_crop" (see `prepare`; for images with a
    label only), or "none" with input_size null. Boxes smaller than `min_box_size`
    pixels on a side in the result are no training targets.
    `exact`: see `prepare`. `reduced`: decode a jpeg at 1/2, 1/4 or 1/8 where that is still as large as its place in
    the result, if the policy is one that `planning` knows.
    """

    def __init__(
        self,
        policy: Sequence[Any] = (),
        *,
        input_size: tuple[int, int] | None,
        resize: str,
        crop_fraction: float = CROP_FRACTION,
        min_box_size: float = 1.0,
        exact: bool = False,
        reduced: bool = False,
    ) -> None:
        check_resize(input_size, resize)
        if reduced and exact:
            raise ValueError("reduced=True decodes less than there is: it does not go with exact=True (evaluation)")
        if not 0 < crop_fraction <= 1:
            raise ValueError(f"crop_fraction={crop_fraction}: expected a share of the image above 0, at most 1")
        self.input_size = (int(input_size[0]), int(input_size[1])) if input_size is not None else None
        self.resize, self.crop_fraction = resize, crop_fraction
        self.min_box_size, self.exact, self.reduced = min_box_size, exact, reduced
        check_arguments(policy)
        self._pipelines = {boxes: _compose(policy, boxes=boxes) for boxes in (True, False)} if len(policy) else {}
        self._planner: Any = None if exact or resize == "center_crop" else _planner_of(policy)

    def __call__(self, sample: Sample | Pending, seed: int) -> tuple[Sample, dict[str, Any]]:
        """The transformed sample and its meta, the same for the same seed. `ground_truth` stays as it is."""
        truth = sample.sample if isinstance(sample, Pending) else sample
        if self._planner is not None and self._planner.takes(truth):
            return self._plan(sample if isinstance(sample, Pending) else _decoded(sample), seed)
        sample = sample.read() if isinstance(sample, Pending) else sample
        original_size = sample.image.shape[:2]
        if self._pipelines:
            sample = self._augment(sample, seed)
        size = sample.image.shape[:2]
        if self.resize == "center_crop" and (sample.boxes is not None or sample.mask is not None):
            raise ValueError("resize='center_crop' would cut boxes and masks off: use stretch or letterbox")
        image, meta = prepare(
            sample.image, self.input_size, self.resize, crop_fraction=self.crop_fraction, exact=self.exact
        )
        meta["original_size"] = original_size
        (height, width), pad = meta["input_size"], meta["pad"]
        inner = height - pad[3], width - pad[2]
        changes: dict[str, Any] = {"image": image}
        if sample.mask is not None:
            changes["mask"] = pad_image(resize_mask(sample.mask, inner), pad, IGNORE)
        result = replace(sample, **changes)
        return self._with_large_boxes(result, np.array([inner[1] / size[1], inner[0] / size[0]] * 2, np.float32)), meta

    def _plan(self, pending: Pending, seed: int) -> tuple[Sample, dict[str, Any]]:
        """The same for policies whose geometry is decided first: less is decoded, and no pixel moved twice."""
        from . import planning

        planner, sample, size = self._planner, pending.sample, pending.size
        boxes = stack_boxes(sample)
        drawn = planner.draw(boxes, size, seed)
        inner, pad = fitted(drawn.size, self.input_size, self.resize)
        target = drawn.plan.size if any(drawn.plan.pad) else inner
        reduction = planning.best_reduction(drawn, size, target) if self.reduced else 1
        image = pending.pixels(reduction)
        if image.shape[:2] == size:
            reduction = 1  # it is no jpeg
        image = pad_image(planner.color(planning.render(image, drawn, inner, reduction=reduction)), pad, FILL)
        changes: dict[str, Any] = {"image": image}
        if sample.mask is not None:
            changes["mask"] = pad_image(planning.render_mask(sample.mask, drawn, inner), pad, IGNORE)
        if sample.boxes is not None:
            changes |= unstack_boxes(sample, planning.move_boxes(boxes, drawn, size, inner))
        meta = {"original_size": size, "input_size": image.shape[:2], "pad": pad}
        return self._with_large_boxes(replace(sample, **changes)), meta

    def _with_large_boxes(self, sample: Sample, scale: np.ndarray | float = 1) -> Sample:
        """With boxes multiplied by `scale`, and without those that are smaller then than `min_box_size`."""
        changes: dict[str, Any] = {}
        for boxes_key, labels_key in (("boxes", "labels"), ("crowd_boxes", "crowd_labels")):
            boxes, labels = getattr(sample, boxes_key), getattr(sample, labels_key)
            if boxes is None:
                continue
            boxes = boxes * scale
            large = (boxes[:, 2:] - boxes[:, :2] >= self.min_box_size).all(1)
            changes |= {boxes_key: boxes[large], labels_key: labels[large]}
        return replace(sample, **changes)

    def _augment(self, sample: Sample, seed: int) -> Sample:
        pipeline = self._pipelines[sample.boxes is not None]
        # One pair of generators for the whole pipeline. `set_random_seed` would give every transform its own, equally
        # seeded pair: all coins with p=0.5 would then fall alike (two of eight combinations of three were ever seen).
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        data: dict[str, Any] = {"image": sample.image}
        if sample.mask is not None:
            data["mask"] = sample.mask
        if sample.boxes is None:
            result = pipeline(**data)
            return replace(sample, image=result["image"], mask=result.get("mask"))
        data["bboxes"] = stack_boxes(sample)
        result = pipeline(**data)
        changes = unstack_boxes(sample, np.asarray(result["bboxes"], np.float64))
        return replace(sample, image=result["image"], mask=result.get("mask"), **changes)


def stack_boxes(sample: Sample) -> np.ndarray:
    """Boxes and crowd regions as float64 [N, 5].

    The fifth column is the row a box came from; below zero marks crowd regions, which crops treat differently.
    """
    none = np.zeros((0, 4), np.float32)
    boxes, crowd = (none if found is None else found for found in (sample.boxes, sample.crowd_boxes))
    stacked = np.empty((len(boxes) + len(crowd), 5))
    stacked[: len(boxes), :4], stacked[len(boxes) :, :4] = boxes, crowd
    stacked[: len(boxes), 4], stacked[len(boxes) :, 4] = np.arange(len(boxes)), -1 - np.arange(len(crowd))
    return stacked


def unstack_boxes(sample: Sample, found: np.ndarray) -> dict[str, Any]:
    """What of `stack_boxes` is left, as the fields of a sample."""
    rows = found[:, 4].astype(np.int64) if len(found) else np.zeros(0, np.int64)
    boxes = found[:, :4].astype(np.float32).reshape(-1, 4)
    changes: dict[str, Any] = {"boxes": boxes[rows >= 0], "labels": _take(sample.labels, rows[rows >= 0])}
    if sample.crowd_boxes is not None:
        changes |= {"crowd_boxes": boxes[rows < 0], "crowd_labels": _take(sample.crowd_labels, -1 - rows[rows < 0])}
    return changes


def check_arguments(policy: Sequence[Any]) -> None:
    """A mistyped argument is an error (albumentations only warns and goes on with the default)."""
    for transform in policy:
        wrong = getattr(transform, "invalid_args", None)
        if wrong:
            known = sorted(transform.get_transform_init_args_names())
            raise ValueError(
                f"{type(transform).__name__} has no argument {', '.join(wrong)}: it has {', '.join(known)}"
            )
        check_arguments(getattr(transform, "transforms", ()))


def _compose(policy: Sequence[Any], *, boxes: bool) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the package index for updates
    import albumentations as A

    box_params = A.BboxParams("pascal_voc", clip=True, filter_invalid_bboxes=True) if boxes else None
    return A.Compose(list(policy), bbox_params=box_params)


def _planner_of(policy: Sequence[Any]) -> Any:
    from .planning import planner_of  # it needs us, and albumentations, which is slow to import

    return planner_of(policy)


def _decoded(sample: Sample) -> Pending:
    return Pending(sample, sample.image.shape[:2], lambda _: sample.image)


def check_resize(input_size: tuple[int, int] | None, resize: str) -> None:
    if resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}: expected one of {', '.join(RESIZES)}")
    if (input_size is None) != (resize == "none"):
        raise ValueError(
            f"resize={resize!r} with input_size={input_size}: stretch, letterbox, shorter and center_crop need "
            "an input_size (h, w), none takes images as they are (input_size null)"
        )


def fitted(
    size: tuple[int, int], input_size: tuple[int, int] | None, resize: str
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size to resize to, and the padding to add."""
    if input_size is None:
        return size, (0, 0, 0, 0)
    height, width = int(input_size[0]), int(input_size[1])
    if resize in ("stretch", "center_crop"):
        return (height, width), (0, 0, 0, 0)
    scale = (max if resize == "shorter" else min)(height / size[0], width / size[1])
    inner = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if resize == "shorter":
        return inner, (0, 0, 0, 0)
    return inner, (0, 0, width - inner[1], height - inner[0])


def _take(labels: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    assert labels is not None, "boxes need labels"
    return labels[rows]
