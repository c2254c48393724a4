"""Policies whose geometry is known before the picture is decoded: at most one crop, then flips, then color changes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np

from ..annotations.sample import Sample
from ..labels import IGNORE
from .crops import Plan, PlannedTransform
from .resize import FILL, pad_image, resize_bilinear, resize_mask

REDUCTIONS = (8, 4, 2)


@dataclass(frozen=True)
class Drawn:
    """The random choices for one sample."""

    plan: Plan
    crop: Any  # the PlannedTransform that made the plan; None: boxes do not move and no fill is needed
    flip: bool

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the policy's output."""
        left, top, right, bottom = self.plan.pad
        return self.plan.size[0] + top + bottom, self.plan.size[1] + left + right


class Planner:
    """Draws and applies such a policy, with the same random numbers as albumentations.

    The crop and the resize after it become one resampling; flips and color changes see the small picture: the same up
    to rounding.
    """

    def __init__(self, crop: Any, flips: Sequence[A.HorizontalFlip], colors: Sequence[A.ColorJitter]) -> None:
        self.crop, self.flips, self.colors = crop, tuple(flips), tuple(colors)

    def takes(self, sample: Sample) -> bool:
        """Whether it applies: albumentations' own crop moves boxes and masks differently."""
        return not isinstance(self.crop, A.RandomResizedCrop) or (sample.boxes is None and sample.mask is None)

    def draw(self, boxes: np.ndarray, size: tuple[int, int], seed: int) -> Drawn:
        """`boxes` [N, 5] of a picture of `size` (h, w); see `transforms.stack_boxes`."""
        generators = np.random.default_rng(seed), random.Random(seed)
        generators[1].random()  # albumentations' Compose asks whether to run at all
        for step in (self.crop, *self.flips, *self.colors):
            if step is not None:
                step.set_random_state(*generators)
        plan, crop = Plan((0, 0, size[1], size[0]), size), None
        if self.crop is not None and self.crop.should_apply():
            if isinstance(self.crop, PlannedTransform):
                plan, crop = self.crop.plan(boxes, *size), self.crop
            else:
                window = self.crop.get_params_dependent_on_data({"shape": (*size, 3)}, {})["crop_coords"]
                left, top, right, bottom = map(int, window)
                plan = Plan((left, top, right, bottom), tuple(self.crop.size))
        return Drawn(plan, crop, sum(flip.should_apply() for flip in self.flips) % 2 == 1)

    def color(self, image: np.ndarray) -> np.ndarray:
        """The color changes that belong to the last `draw`."""
        for step in self.colors:
            image = step(image=image)["image"]
        return image


def planner_of(policy: Sequence[Any]) -> Planner | None:
    """A planner for this policy; None if it is of another kind."""
    rest = list(policy)
    crop = rest.pop(0) if rest and _is_crop(rest[0]) else None
    flips = []
    while rest and type(rest[0]) is A.HorizontalFlip:
        flips.append(rest.pop(0))
    if any(type(step) is not A.ColorJitter for step in rest):
        return None
    return Planner(crop, flips, rest)


def _is_crop(step: Any) -> bool:
    if type(step) is not A.RandomResizedCrop:
        return isinstance(step, PlannedTransform)
    return step.interpolation == cv2.INTER_LINEAR and step.area_for_downscale is None


def best_reduction(drawn: Drawn, size: tuple[int, int], target: tuple[int, int]) -> int:
    """The strongest reduction at which the window is still at least as large as its target size.

    Only if it divides the picture's sides: otherwise the last pixel covers less than the others, and which
    side that is on depends on the EXIF orientation.
    """
    left, top, right, bottom = drawn.plan.window
    for reduction in REDUCTIONS:
        fits = bottom - top >= reduction * target[0] and right - left >= reduction * target[1]
        if fits and size[0] % reduction == size[1] % reduction == 0:
            return reduction
    return 1


def render(image: np.ndarray, drawn: Drawn, target: tuple[int, int], *, reduction: int = 1) -> np.ndarray:
    """The window of a picture (decoded at 1/`reduction`) at `target` (h, w), padded and flipped."""
    if any(drawn.plan.pad):  # resized as planned, and once more with its padding
        fill = drawn.crop.fill if drawn.crop else FILL
        padded = pad_image(_cut(image, drawn.plan.window, drawn.plan.size, reduction), drawn.plan.pad, fill)
        image = resize_bilinear(padded, target)
    else:
        image = _cut(image, drawn.plan.window, target, reduction)
    return cv2.flip(image, 1) if drawn.flip else image


def render_mask(mask: np.ndarray, drawn: Drawn, target: tuple[int, int]) -> np.ndarray:
    """The same for a mask [H, W], by nearest neighbor."""
    left, top, right, bottom = drawn.plan.window
    mask, padded = mask[top:bottom, left:right], any(drawn.plan.pad)
    mask = resize_mask(mask, drawn.plan.size if padded else target)
    if padded:
        mask = resize_mask(pad_image(mask, drawn.plan.pad, drawn.crop.fill_mask if drawn.crop else IGNORE), target)
    return cv2.flip(mask, 1) if drawn.flip else mask


def move_boxes(boxes: np.ndarray, drawn: Drawn, size: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Boxes [N, 5] of a picture of `size` (h, w), in pixels of `target`."""
    moved = boxes / [*size[::-1], *size[::-1], 1]
    if drawn.crop is not None:
        moved = drawn.crop.apply_to_bboxes(moved, drawn.plan, shape=size)
    if drawn.flip:
        moved[:, [0, 2]] = 1 - moved[:, [2, 0]]
    moved[:, :4] *= [*target[::-1], *target[::-1]]
    return moved


def _cut(image: np.ndarray, window: tuple[int, int, int, int], size: tuple[int, int], reduction: int) -> np.ndarray:
    left, top, right, bottom = window
    if reduction == 1:
        return resize_bilinear(image[top:bottom, left:right], size)
    # The window's edges lie between the reduced picture's pixels: resampled from exactly there, boxes stay in place.
    x, y = left // reduction, top // reduction
    part = image[y : -(-bottom // reduction), x : -(-right // reduction)]
    step_x, step_y = (right - left) / reduction / size[1], (bottom - top) / reduction / size[0]
    grid = np.array(
        [[step_x, 0, left / reduction - x + (step_x - 1) / 2], [0, step_y, top / reduction - y + (step_y - 1) / 2]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, grid, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)
