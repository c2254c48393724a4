"""Random crops and zooms as albumentations transforms, so that they compose with others.

Boxes may carry a fifth column; below zero it marks a crowd region: clipped like a box, but never used to choose a crop.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it checks PyPI for updates

from albumentations import DualTransform
from albumentations.core.type_definitions import Targets

from ..labels import IGNORE
from .resize import FILL, check_resize, fitted, pad_image, resize_bilinear, resize_mask

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image


@dataclass(frozen=True)
class Plan:
    """Cut out `window`, resize it to `size` (h, w), pad (left, top, right, bottom). `keep` marks surviving boxes."""

    window: Window
    size: tuple[int, int]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    keep: np.ndarray | None = None


class PlannedTransform(DualTransform):
    """Applies a plan to image, mask and boxes; a subclass makes the plan. One resampling at most."""

    _targets = (Targets.IMAGE, Targets.MASK, Targets.BBOXES)

    def __init__(self, *, p: float, fill: tuple[int, int, int] = FILL, fill_mask: int = IGNORE) -> None:
        super().__init__(p=p)
        self.fill, self.fill_mask = tuple(fill), fill_mask

    def plan(self, boxes: np.ndarray, height: int, width: int) -> Plan:
        """`boxes` [N, 4+] xyxy pixels."""
        raise NotImplementedError

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Albumentations' hook: plan once for all targets."""
        height, width = params["shape"][:2]
        boxes = data.get("bboxes")
        boxes = np.zeros((0, 4)) if boxes is None or not len(boxes) else np.array(boxes, np.float64)
        boxes[:, :4] *= [width, height, width, height]
        return {"plan": self.plan(boxes, height, width)}

    def apply(self, img: np.ndarray, plan: Plan, **params: Any) -> np.ndarray:
        """Image [H, W, C]."""
        left, top, right, bottom = plan.window
        return pad_image(resize_bilinear(img[top:bottom, left:right], plan.size), plan.pad, params["fill"])

    def apply_to_mask(self, mask: np.ndarray, plan: Plan, **params: Any) -> np.ndarray:
        """Mask [H, W]."""
        left, top, right, bottom = plan.window
        return pad_image(resize_mask(mask[top:bottom, left:right], plan.size), plan.pad, params["fill_mask"])

    def apply_to_bboxes(self, bboxes: np.ndarray, plan: Plan, **params: Any) -> np.ndarray:
        """Boxes [N, 4+] as fractions of the image, to fractions of the result, clipped to the window."""
        height, width = params["shape"][:2]
        boxes = np.array(bboxes if plan.keep is None else bboxes[plan.keep], np.float64)
        left, top, right, bottom = plan.window
        origin, extent = np.array([left, top]), np.array([right - left, bottom - top])
        size, pad = np.array(plan.size[::-1]), np.array(plan.pad)
        for corner in (slice(0, 2), slice(2, 4)):
            inside = np.clip((boxes[:, corner] * [width, height] - origin) / extent, 0, 1)
            boxes[:, corner] = (inside * size + pad[:2]) / (size + pad[:2] + pad[2:])
        return boxes[(boxes[:, 2:4] > boxes[:, :2]).all(1)]


class SSDRandomCrop(PlannedTransform):
    """The reference detector's `ssd_random_crop`.

    One of seven options, uniformly: a crop of aspect 0.5 to 2 and 0.1 to 1 of the area that covers at least `overlap`
    of some box (the whole image after 100 failures); boxes stay if at least `overlap` of their own area is inside. Each
    option is skipped with probability `skip`. The distribution is that of TensorFlow's sample_distorted_bounding_box,
    including its rounding and half-open offsets.
    """

    def __init__(
        self,
        *,
        overlaps: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        aspect: tuple[float, float] = (0.5, 2.0),
        area: tuple[float, float] = (0.1, 1.0),
        skip: float = 0.15,
        attempts: int = 100,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.overlaps, self.aspect, self.area = tuple(overlaps), tuple(aspect), tuple(area)
        self.skip, self.attempts = skip, attempts

    def plan(self, boxes: np.ndarray, height: int, width: int) -> Plan:
        """The first attempted window that covers enough of some box."""
        overlap = self.overlaps[self.random_generator.integers(len(self.overlaps))]
        whole = (0, 0, width, height)
        if self.random_generator.random() < self.skip:
            return Plan(whole, (height, width))
        objects = boxes[~crowd_rows(boxes), :4]
        objects = objects.astype(np.int64).astype(np.float64) if len(objects) else np.array([whole], np.float64)
        objects = objects[box_areas(objects) >= 1]  # the reference ignores objects below one pixel
        windows = self._windows(height, width)
        good = (covered(objects, windows) >= overlap).any(1) if len(objects) else np.zeros(len(windows), bool)
        window = tuple(windows[good.argmax()].tolist()) if good.any() else whole
        share = covered(boxes[:, :4], np.array([window], np.float64))[0]
        keep = ((share >= overlap - 1e-6) & (share > 0)) | crowd_rows(boxes)
        return Plan(window, (window[3] - window[1], window[2] - window[0]), keep=keep)

    def _windows(self, height: int, width: int) -> np.ndarray:
        """The valid ones of `attempts` random windows [V, 4]: height uniform within the limits of aspect and area."""
        draws = self.random_generator.random((4, self.attempts))
        aspect = self.aspect[0] + draws[0] * (self.aspect[1] - self.aspect[0])
        low_area, high_area = self.area[0] * height * width, self.area[1] * height * width
        low, high = np.rint(np.sqrt(low_area / aspect)), np.rint(np.sqrt(high_area / aspect))
        fitting = np.floor((width + 0.5 - 1e-7) / aspect)  # the tallest whose rounded width fits
        high = np.minimum(np.where(np.rint(high * aspect) > width, fitting, high), height)
        low = np.minimum(low, high)
        h = low + np.floor(draws[1] * (high - low + 1))
        h += h * np.rint(h * aspect) < low_area  # rounding may leave the area by a row
        h -= h * np.rint(h * aspect) > high_area
        w = np.rint(h * aspect)
        valid = (h * w >= low_area) & (h * w <= high_area) & (w <= width) & (h <= height) & (w > 0) & (h > 0)
        h, w = h[valid], w[valid]
        top, left = np.floor(draws[2][valid] * (height - h)), np.floor(draws[3][valid] * (width - w))
        return np.stack([left, top, left + w, top + h], 1).astype(np.int64)


class IoUCrop(PlannedTransform):
    """torchvision's RandomIoUCrop: keeps boxes whose center is inside; some box reaches the drawn overlap."""

    def __init__(
        self,
        *,
        overlaps: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        scale: tuple[float, float] = (0.3, 1.0),
        aspect: tuple[float, float] = (0.5, 2.0),
        attempts: int = 40,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if max(overlaps) < 1:
            raise ValueError(f"overlaps={tuple(overlaps)}: one must be 1.0 or more, which means the whole image")
        self.overlaps, self.scale, self.aspect, self.attempts = tuple(overlaps), tuple(scale), tuple(aspect), attempts

    def plan(self, boxes: np.ndarray, height: int, width: int) -> Plan:
        """Draws an option and a set of windows until one fits; an overlap of 1 or more leaves the image unchanged."""
        crowd = crowd_rows(boxes)
        centers = (boxes[:, :2] + boxes[:, 2:4]) / 2
        while True:
            overlap = self.overlaps[self.random_generator.integers(len(self.overlaps))]
            if overlap >= 1:
                return Plan((0, 0, width, height), (height, width))
            windows = self._windows(height, width)
            within = np.all((centers > windows[:, None, :2]) & (centers < windows[:, None, 2:]), axis=2)
            good = np.any(within & (iou(boxes[:, :4], windows) >= overlap) & ~crowd, axis=1)
            if good.any():
                first = int(good.argmax())
                left, top, right, bottom = windows[first].tolist()
                return Plan((left, top, right, bottom), (bottom - top, right - left), keep=within[first] | crowd)

    def _windows(self, height: int, width: int) -> np.ndarray:
        draws = self.random_generator.random((self.attempts, 4))
        sides = np.floor((self.scale[0] + (self.scale[1] - self.scale[0]) * draws[:, :2]) * [width, height])
        ratio = sides[:, 0] / np.maximum(sides[:, 1], 1)
        valid = (sides >= 1).all(1) & (ratio >= self.aspect[0]) & (ratio <= self.aspect[1])
        corner = np.floor(([width, height] - sides) * draws[:, 2:])
        return np.concatenate([corner, corner + sides], 1)[valid].astype(np.int64)


class ZoomOut(PlannedTransform):
    """torchvision's RandomZoomOut: places the image at random on a canvas of up to `side_range[1]` times its sides."""

    def __init__(
        self,
        *,
        side_range: tuple[float, float] = (1.0, 4.0),
        fill: tuple[int, int, int] = FILL,
        fill_mask: int = IGNORE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p, fill=fill, fill_mask=fill_mask)
        if not 1 <= side_range[0] <= side_range[1]:
            raise ValueError(f"side_range={tuple(side_range)}: expected 1 <= smallest <= largest")
        self.side_range = tuple(side_range)

    def plan(self, boxes: np.ndarray, height: int, width: int) -> Plan:
        ratio = self.random_generator.uniform(self.side_range[0], self.side_range[1])
        spare_w, spare_h = int(width * ratio) - width, int(height * ratio) - height
        across, down = self.random_generator.random(2)
        left, top = int(spare_w * across), int(spare_h * down)
        return Plan((0, 0, width, height), (height, width), (left, top, spare_w - left, spare_h - top))


class RandomScaleCrop(PlannedTransform):
    """Segmentation's scale-and-crop in one resampling: scale by `scale`, crop `size` (h, w), pad right and bottom.

    `step` makes the scales a grid (the reference: 0.5 to 2 in steps of 0.25). Cuts the window out first and resizes it,
    so that the scale is exact to the rounding of the window's sides.

    Args:
        fit: h, w. A scale of 1 is then the image as `resize` (see `Transform`) fits it into that: where evaluation sees
            reduced images, training has to see objects of the same sizes. None: the unscaled image.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        scale: tuple[float, float] = (0.5, 2.0),
        step: float | None = None,
        fit: tuple[int, int] | None = None,
        resize: str = "none",
        fill: tuple[int, int, int] = FILL,
        fill_mask: int = IGNORE,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p, fill=fill, fill_mask=fill_mask)
        check_resize(fit, resize)
        if not 0 < scale[0] <= scale[1] or (step is not None and step <= 0):
            raise ValueError(f"scale={tuple(scale)}, step={step}: expected 0 < smallest <= largest and a positive step")
        self.size, self.scale, self.step = (int(size[0]), int(size[1])), tuple(scale), step
        self.fit, self.resize = fit, resize

    def plan(self, boxes: np.ndarray, height: int, width: int) -> Plan:
        low, high = self.scale
        if self.step is None:
            scale = self.random_generator.uniform(low, high)
        else:
            scale = low + self.step * self.random_generator.integers(int((high - low) / self.step + 1e-6) + 1)
        (fitted_h, fitted_w), _ = fitted((height, width), self.fit, self.resize)
        top, bottom, out_h = self._side(height, self.size[0], scale * fitted_h / height)
        left, right, out_w = self._side(width, self.size[1], scale * fitted_w / width)
        pad = (0, 0, self.size[1] - out_w, self.size[0] - out_h)
        return Plan((left, top, right, bottom), (out_h, out_w), pad)

    def _side(self, length: int, target: int, scale: float) -> tuple[int, int, int]:
        """(start, stop, length after scaling) of the window along one side."""
        scaled = max(1, round(length * scale))
        if scaled <= target:
            return 0, length, scaled
        window = min(length, max(1, round(target / scale)))
        start = int(self.random_generator.integers(length - window + 1))
        return start, start + window, target


def crowd_rows(boxes: np.ndarray) -> np.ndarray:
    """bool [N]: which rows of [N, 4+] are crowd regions."""
    return boxes[:, 4] < 0 if boxes.shape[1] > 4 else np.zeros(len(boxes), bool)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] xyxy to areas, 0 where the corners are swapped."""
    sides = np.maximum(boxes[..., 2:4] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def covered(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """[V, N]: the fraction of each box's area inside each window."""
    return _intersections(boxes, windows) / np.maximum(box_areas(boxes), 1e-9)


def iou(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """[V, N] intersection over union."""
    common = _intersections(boxes, windows)
    return common / np.maximum(box_areas(boxes) + box_areas(windows)[:, None] - common, 1e-9)


def _intersections(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[None, :, :2], windows[:, None, :2])
    high = np.minimum(boxes[None, :, 2:4], windows[:, None, 2:4])
    return box_areas(np.concatenate([low, high], 2))
