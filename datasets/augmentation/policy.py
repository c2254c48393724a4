"""Albumentations policies on samples."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..annotations.sample import Pending, Sample
from ..labels import IGNORE
from .resize import (
    CROP_FRACTION,
    FILL,
    check_resize,
    fitted,
    pad_image,
    prepare,
    resize_mask,
    stack_boxes,
    unstack_boxes,
)


class Transform:
    """An albumentations policy, then the resize. The policy [] with `exact` is used in evaluation.

    `resize`: "stretch" to `input_size` (h, w), "letterbox" (keeps the aspect, pads right and bottom), "shorter" (keeps
    the aspect, `input_size` is the minimum; such images differ in size), "center_crop" (see `prepare`; for images with
    a label only), or "none" with input_size null. Boxes smaller than `min_box_size`
    pixels on a side in the result are not training targets.
    `exact`: see `prepare`. `reduced`: decode a JPEG at 1/2, 1/4 or 1/8 where that is still at least as large as its
    place in the result, if `planning` supports the policy.
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
            raise ValueError(
                "reduced=True decodes at lower resolution and cannot be combined with exact=True (evaluation)"
            )
        if not 0 < crop_fraction <= 1:
            raise ValueError(f"crop_fraction={crop_fraction}: expected a fraction of the image above 0 and at most 1")
        self.input_size = (int(input_size[0]), int(input_size[1])) if input_size is not None else None
        self.resize, self.crop_fraction = resize, crop_fraction
        self.min_box_size, self.exact, self.reduced = min_box_size, exact, reduced
        check_arguments(policy)
        self._pipelines = {boxes: _compose(policy, boxes=boxes) for boxes in (True, False)} if len(policy) else {}
        self._planner: Any = None
        if not exact and resize != "center_crop":
            from .planning import planner_of  # not at the top: albumentations is slow to import

            self._planner = planner_of(policy)

    def __call__(self, sample: Sample | Pending, seed: int) -> tuple[Sample, dict[str, Any]]:
        """The transformed sample and its meta, the same for the same seed. `ground_truth` is unchanged."""
        truth = sample.sample if isinstance(sample, Pending) else sample
        if self._planner is not None and self._planner.takes(truth):
            return self._plan(sample if isinstance(sample, Pending) else _decoded(sample), seed)
        sample = sample.read() if isinstance(sample, Pending) else sample
        original_size = sample.image.shape[:2]
        if self._pipelines:
            sample = self._augment(sample, seed)
        size = sample.image.shape[:2]
        if self.resize == "center_crop" and (sample.boxes is not None or sample.mask is not None):
            raise ValueError("resize='center_crop' would crop boxes and masks: use stretch or letterbox")
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
        """The same for policies that plan their geometry first: less is decoded, and no pixel is moved twice."""
        from . import planning

        planner, sample, size = self._planner, pending.sample, pending.size
        boxes = stack_boxes(sample)
        drawn = planner.draw(boxes, size, seed)
        inner, pad = fitted(drawn.size, self.input_size, self.resize)
        target = drawn.plan.size if any(drawn.plan.pad) else inner
        reduction = planning.best_reduction(drawn, size, target) if self.reduced else 1
        image = pending.pixels(reduction)
        if image.shape[:2] == size:
            reduction = 1  # it is not a JPEG
        image = pad_image(planner.color(planning.render(image, drawn, inner, reduction=reduction)), pad, FILL)
        changes: dict[str, Any] = {"image": image}
        if sample.mask is not None:
            changes["mask"] = pad_image(planning.render_mask(sample.mask, drawn, inner), pad, IGNORE)
        if sample.boxes is not None:
            changes |= unstack_boxes(sample, planning.move_boxes(boxes, drawn, size, inner))
        meta = {"original_size": size, "input_size": image.shape[:2], "pad": pad}
        return self._with_large_boxes(replace(sample, **changes)), meta

    def _with_large_boxes(self, sample: Sample, scale: np.ndarray | float = 1) -> Sample:
        """The sample with boxes multiplied by `scale`, without those that are then smaller than `min_box_size`."""
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
        # seeded pair: all flips with p=0.5 would then agree (two of eight combinations of three would ever occur).
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


def check_arguments(policy: Sequence[Any]) -> None:
    """A mistyped argument is an error (albumentations only warns and uses the default)."""
    for transform in policy:
        wrong = getattr(transform, "invalid_args", None)
        if wrong:
            known = sorted(transform.get_transform_init_args_names())
            raise ValueError(
                f"{type(transform).__name__} has no argument {', '.join(wrong)}: choose from {', '.join(known)}"
            )
        check_arguments(getattr(transform, "transforms", ()))


def _compose(policy: Sequence[Any], *, boxes: bool) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it checks PyPI for updates
    import albumentations as A

    box_params = A.BboxParams("pascal_voc", clip=True, filter_invalid_bboxes=True) if boxes else None
    return A.Compose(list(policy), bbox_params=box_params)


def _decoded(sample: Sample) -> Pending:
    return Pending(sample, sample.image.shape[:2], lambda _: sample.image)
