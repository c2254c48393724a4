"""Generated scenes: objects that differ only in shape on textured backgrounds, from (seed, index), without files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from ..words import counted
from .annotations.sample import Array, Sample, digest
from .labels import LabelMap, detection_labels, segmentation_labels

SUPERSAMPLING = 4  # per axis; cv2.fillPoly also draws the outline, so objects are 0.5 / SUPERSAMPLING pixels larger
MAX_OBJECTS = 100  # the instance map is uint8
PLACEMENT_TRIES = 8
MIN_DELTA_E = 28.0  # CIELAB distance of an object to the pixels under its outline ...
MIN_CONTRAST_SHARE = 0.8  # ... along at least this share of it


@dataclass(frozen=True)
class SceneSpec:
    """The content of scenes. Sides are those of a whole object's box, as a fraction of the image's shorter side."""

    classes: tuple[str, ...] = ("circle", "square", "triangle")
    min_side: float = 0.2
    max_side: float = 0.6
    min_objects: int = 1
    max_objects: int = 6
    min_visible: float = 0.4  # of an object's own pixels; placements that hide more of any object are rejected

    def __post_init__(self) -> None:
        unknown = sorted(set(self.classes) - set(SHAPES))
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes {list(self.classes)}: expected distinct classes out of {list(SHAPES)}")
        if not 0 < self.min_side <= self.max_side <= 1:
            raise ValueError(
                f"min_side {self.min_side}, max_side {self.max_side}: expected 0 < min_side <= max_side <= 1 "
                "(fractions of the image's shorter side)"
            )
        if not 0 <= self.min_objects <= self.max_objects <= MAX_OBJECTS:
            raise ValueError(
                f"min_objects {self.min_objects}, max_objects {self.max_objects}: "
                f"expected 0 <= min_objects <= max_objects <= {MAX_OBJECTS}"
            )
        if not 0 < self.min_visible <= 1:
            raise ValueError(f"min_visible {self.min_visible}: expected a fraction of an object's pixels in (0, 1]")


@dataclass(frozen=True)
class Scene:
    """A picture and its instance map: the k-th object (painter's order) owns the pixels of value k + 1."""

    image: Array  # uint8 [H, W, 3] RGB
    instances: Array  # uint8 [H, W], 0 where no object covers at least half of the pixel
    classes: Array  # int64 [N], index into the spec's classes

    def masks(self) -> Array:
        """Visible pixels per object, bool [N, H, W]."""
        return self.instances == np.arange(1, len(self.classes) + 1, dtype=np.uint8)[:, None, None]

    def boxes(self) -> Array:
        """Tight boxes of the visible pixels (as COCO does it), float32 [N, 4] xyxy."""
        boxes = np.zeros((len(self.classes), 4), np.float32)
        for box, mask in zip(boxes, self.masks(), strict=True):
            x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
            box[:] = x, y, x + width, y + height
        return boxes


class Shapes:
    """`length` generated scenes, each from (seed, index); the two sources below add their annotations."""

    def __init__(
        self,
        *,
        length: int,
        size: Sequence[int] = (128, 128),
        seed: int = 0,
        preset: str = "standard",
        classes: Sequence[str] | None = None,
        min_side: float | None = None,
        max_side: float | None = None,
        min_objects: int | None = None,
        max_objects: int | None = None,
        min_visible: float | None = None,
        shuffle_labels: bool = False,
    ) -> None:
        """Train and val need different seeds. None uses the preset's value.

        `shuffle_labels` redraws every object's class after painting: anything still "learned" then is leakage.
        """
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: choose one of {list(PRESETS)}")
        given = {
            "classes": None if classes is None else tuple(classes),
            "min_side": min_side,
            "max_side": max_side,
            "min_objects": min_objects,
            "max_objects": max_objects,
            "min_visible": min_visible,
        }
        self.spec = replace(PRESETS[preset], **{key: value for key, value in given.items() if value is not None})
        if length < 0 or seed < 0:
            raise ValueError(f"length {length}, seed {seed}: neither may be negative")
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size {tuple(size)}: expected (height, width) in pixels")
        self.length, self.size, self.seed = length, (int(size[0]), int(size[1])), seed
        self.shuffle_labels = shuffle_labels

    def __len__(self) -> int:
        return self.length

    @property
    def notes(self) -> list[str]:
        spec = self.spec
        notes = [
            f"{counted(self.length, 'generated scene')} of {self.size[0]}x{self.size[1]}, seed {self.seed}: "
            f"{spec.min_objects} to {spec.max_objects} objects of the classes {', '.join(spec.classes)}, "
            f"sides {100 * spec.min_side:g} to {100 * spec.max_side:g} %"
        ]
        if self.shuffle_labels:
            notes.append("labels are shuffled: nothing can be learned from them, this is a sanity check")
        return notes

    def fingerprint(self) -> str:
        """Over everything that determines scenes and annotations."""
        scenes = [self.length, self.size, self.seed, self.shuffle_labels, asdict(self.spec)]
        return digest(type(self).__name__, json.dumps(scenes))

    def scene(self, index: int) -> Scene:
        """The same scene for the same (seed, index), in any order of calls."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        scene = render_scene(rng, size=self.size, spec=self.spec)
        if self.shuffle_labels:
            scene = replace(scene, classes=rng.integers(len(self.spec.classes), size=len(scene.classes)))
        return scene


class ShapesDetection(Shapes):
    """Scenes with boxes; slots count from 1 in the order of `classes`."""

    @property
    def labels(self) -> LabelMap:
        return detection_labels((slot, name, "shape") for slot, name in enumerate(self.spec.classes, start=1))

    def read(self, index: int) -> Sample:
        scene = self.scene(index)
        boxes, labels = scene.boxes(), scene.classes + 1
        x1y1, x2y2 = np.split(boxes.astype(np.float64), 2, axis=1)
        return Sample(
            image=scene.image,
            image_id=index,
            boxes=boxes,
            labels=labels,
            crowd_boxes=np.zeros((0, 4), np.float32),
            crowd_labels=np.zeros(0, np.int64),
            ground_truth={
                "boxes_xywh": np.concatenate([x1y1, x2y2 - x1y1], axis=1),
                "labels": labels.copy(),
                "area": scene.masks().sum(axis=(1, 2)).astype(np.float64),
                "crowd": np.zeros(len(labels), bool),
            },
        )


class ShapesSegmentation(Shapes):
    """The same scenes with masks; slot 0 is background, then `classes` in their order."""

    @property
    def labels(self) -> LabelMap:
        return segmentation_labels(["background", *self.spec.classes])

    def read(self, index: int) -> Sample:
        scene = self.scene(index)
        slots = np.concatenate([[0], scene.classes + 1]).astype(np.uint8)
        mask = slots[scene.instances]
        return Sample(image=scene.image, image_id=index, mask=mask, ground_truth={"mask": mask.copy()})


def render_scene(rng: np.random.Generator, *, size: tuple[int, int], spec: SceneSpec) -> Scene:
    """Paint objects over each other; one without a valid place, or covering no pixel by half, is skipped."""
    canvas, noise = _background(rng, size)
    instances = np.zeros(size, np.uint8)
    classes: list[int] = []
    painted, visible = np.zeros(1, np.int64), np.zeros(1, np.int64)  # pixels of each object; entry 0: background
    for _ in range(rng.integers(spec.min_objects, spec.max_objects + 1)):
        kind = int(rng.integers(len(spec.classes)))
        coverage = _coverage(rng, SHAPES[spec.classes[kind]], size=size, spec=spec)
        mask = coverage >= 0.5
        place = _place(rng, mask, instances=instances, spare=visible - spec.min_visible * painted)
        if place is None:
            continue
        window, hidden = place
        _paint(rng, canvas[:, *window], coverage, texture=noise[window])
        classes.append(kind)
        instances[window][mask] = len(classes)
        painted, visible = np.append(painted, mask.sum()), np.append(visible - hidden, mask.sum())
    canvas += np.float32(rng.uniform(0, 0.08)) * (rng.random(size, dtype=np.float32) - 0.5)  # grain
    np.maximum(canvas, 0, out=canvas)  # convertScaleAbs clips at the upper end only
    image = cv2.convertScaleAbs(cv2.merge(list(canvas)), alpha=255)
    return Scene(image=image, instances=instances, classes=np.array(classes, np.int64))


def _coverage(rng: np.random.Generator, contours: list[Array], *, size: tuple[int, int], spec: SceneSpec) -> Array:
    """How much of each pixel a randomly rotated, stretched and scaled shape covers: float32 [h, w] just around it."""
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.87, 1.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    contours = [contour * (stretch, 1) @ turn for contour in contours]
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    extent = high - low
    # Both sides of the box stay within the limits, so the longer one starts where the shorter one is long enough.
    smallest = min(spec.min_side * extent.max() / extent.min(), spec.max_side)
    scale = rng.uniform(smallest, spec.max_side) * min(size) / extent.max()
    fraction = rng.random(2) * np.clip(np.array(size)[::-1] - scale * extent, 0, 1)  # the subpixel offset
    width, height = np.ceil(fraction + scale * extent - 1e-9).astype(int)
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # Fixed point with 8 bits; cv2 counts from pixel centers, hence the half.
    points = [((contour - low) * scale + fraction) * SUPERSAMPLING - 0.5 for contour in contours]
    cv2.fillPoly(fine, [np.rint(p * 256).astype(np.int32) for p in points], 255, cv2.LINE_8, 8)
    return cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _place(
    rng: np.random.Generator, mask: Array, *, instances: Array, spare: Array
) -> tuple[tuple[slice, slice], Array] | None:
    """A random window for `mask` that hides at most `spare` pixels of each earlier object, and what it hides."""
    if not mask.any():
        return None
    (height, width), (rows, columns) = mask.shape, instances.shape
    for _ in range(PLACEMENT_TRIES):
        y, x = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        window = slice(y, y + height), slice(x, x + width)
        hidden = np.bincount(instances[window][mask], minlength=len(spare))
        if (hidden[1:] <= spare[1:]).all():
            return window, hidden
    return None


def _paint(rng: np.random.Generator, canvas: Array, coverage: Array, *, texture: Array) -> None:
    """Blend a shaded, lightly textured object of a contrasting color into its window [3, h, w] of the canvas."""
    rows, columns = np.nonzero((coverage > 0.02) & (coverage < 0.98))
    step = len(rows) // 32 + 1
    color = _contrasting_color(rng, canvas[:, rows[::step], columns[::step]].T)
    shade = np.float32(rng.uniform(0, 0.3)) * (texture - 0.5)
    shade += np.float32(rng.uniform(0, 0.3)) * _ramp(rng, coverage.shape)
    canvas += coverage * ((1 + shade) * color[:, None, None] - canvas)


def _contrasting_color(rng: np.random.Generator, beneath: Array) -> Array:
    """The first random color that contrasts with enough of the colors `beneath` [n, 3], or the best one."""
    candidates = _random_colors(rng, 16)
    lab = cv2.cvtColor(np.concatenate([candidates, beneath])[:, None], cv2.COLOR_RGB2LAB)[:, 0]
    distance = np.linalg.norm(lab[: len(candidates), None] - lab[None, len(candidates) :], axis=2)
    share = (distance > MIN_DELTA_E).sum(axis=1) / max(1, len(beneath))
    return candidates[np.argmax(np.minimum(share, MIN_CONTRAST_SHARE))]


def _random_colors(rng: np.random.Generator, number: int) -> Array:
    """float32 [number, 3] RGB from 0 to 1: every hue, from pale to vivid, never close to black."""
    hsv = rng.uniform((0, 0.1, 0.25), (360, 0.9, 1), size=(number, 3)).astype(np.float32)
    return cv2.cvtColor(hsv[:, None], cv2.COLOR_HSV2RGB)[:, 0]


def _background(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """A canvas float32 [3, h, w] mixed of two colors by a random pattern, and the noise [h, w] it was made with."""
    noise = _noise(rng, size)
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, noise)
    first, other = _random_colors(rng, 2)
    # The second color is pulled towards the first: a texture, not a second set of objects.
    change = np.float32(rng.uniform(0.2, 0.6)) * (other - first)
    tints = rng.uniform(-0.12, 0.12, size=(3, 3, 3)).astype(np.float32)
    canvas = np.stack([cv2.resize(tint, size[::-1], interpolation=cv2.INTER_LINEAR) for tint in tints])
    canvas += first[:, None, None] + change[:, None, None] * pattern
    return canvas, noise


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Five octaves of value noise, float32 [h, w] around 0.5, almost all of it within 0 to 1."""
    noise = np.full((1, 1), 0.5, np.float32)
    for octave in range(5):
        cells = 3 * 2**octave
        noise = cv2.resize(noise, (cells, cells), interpolation=cv2.INTER_CUBIC)
        noise += np.float32(0.8 * 0.6**octave) * (rng.random((cells, cells), dtype=np.float32) - 0.5)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def _ramp(rng: np.random.Generator, size: Sequence[int]) -> Array:
    """A linear ramp in a random direction, 0 in the middle and rising by 1 over the shorter side: float32 [h, w]."""
    angle, short = rng.uniform(0, 2 * np.pi), min(size)
    y, x = (np.arange(length, dtype=np.float32) - np.float32(length / 2) for length in size)
    return (y * np.float32(np.sin(angle) / short))[:, None] + x * np.float32(np.cos(angle) / short)


def _clouds(rng: np.random.Generator, noise: Array) -> Array:
    return np.clip((noise - 0.5) * np.float32(rng.uniform(1, 4)) + 0.5, 0, 1)


def _gradient(rng: np.random.Generator, noise: Array) -> Array:
    return np.clip(_ramp(rng, noise.shape) + np.float32(0.5) * (noise + 0.5), 0, 1)


def _stripes(rng: np.random.Generator, noise: Array) -> Array:
    """Waves with soft or hard edges, bent by the noise."""
    phase = _ramp(rng, noise.shape) + np.float32(rng.uniform(0, 0.25)) * noise
    wave = np.sin(phase * np.float32(2 * np.pi * rng.uniform(3, 12)))
    return np.clip(wave * np.float32(rng.uniform(0.5, 4)) + 0.5, 0, 1)


def _checks(rng: np.random.Generator, noise: Array) -> Array:
    """Two crossing stripe patterns."""
    return np.abs(_stripes(rng, noise) - _stripes(rng, noise))


PATTERNS: tuple[Callable[[np.random.Generator, Array], Array], ...] = (_clouds, _gradient, _stripes, _checks)


def _radial(corners: int, radii: Sequence[float] = (1.0,)) -> Array:
    """A closed contour [corners, 2] around the origin; the corners cycle through `radii`."""
    angle = 2 * np.pi * np.arange(corners) / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross(arm: float = 0.36) -> Array:
    """A plus sign with arms of half-width `arm`."""
    corner = [(1, -arm), (1, arm), (arm, arm)]
    points, quarter = np.array(corner), np.array([[0, 1], [-1, 0]])
    return np.concatenate([points @ np.linalg.matrix_power(quarter, turns) for turns in range(4)])


# Contours around the origin, the outer one first; where two overlap there is a hole.
SHAPES: dict[str, list[Array]] = {
    "circle": [_radial(128)],
    "square": [_radial(4)],
    "triangle": [_radial(3)],
    "star": [_radial(10, (1.0, 0.45))],
    "cross": [_cross()],
    "ring": [_radial(128), 0.55 * _radial(128)],
    "hexagon": [_radial(6)],
}

PRESETS = {
    "standard": SceneSpec(),
    "hard": SceneSpec(classes=("circle", "square", "triangle", "star", "cross", "ring"), min_side=0.08, max_side=0.5),
}
