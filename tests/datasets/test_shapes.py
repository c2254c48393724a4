"""Generated scenes: exact truth, determinism, and nothing but shape that tells the classes apart."""

import cv2
import numpy as np
import pytest
from pocketvision.datasets.shapes import PRESETS, SHAPES, SceneSpec, ShapesDetection, ShapesSegmentation, _coverage


def test_empty_scene() -> None:
    sample = ShapesDetection(length=1, min_objects=0, max_objects=0).read(0)
    assert sample.boxes.shape == (0, 4)
    assert sample.boxes.dtype == np.float32
    assert sample.labels.shape == (0,)
    assert sample.labels.dtype == np.int64
    assert sample.ground_truth["boxes_xywh"].shape == (0, 4)
    assert sample.image.shape == (128, 128, 3)
    assert sample.image.std() > 1
    mask = ShapesSegmentation(length=1, min_objects=0, max_objects=0).read(0).mask
    assert not mask.any()


def test_no_scenes() -> None:
    source = ShapesDetection(length=0)
    assert len(source) == 0
    assert list(source.labels.names) == [1, 2, 3]
    with pytest.raises(IndexError, match="scene 0 of 0"):
        source.read(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ("circle", "blob")}, "blob"),
        ({"classes": ()}, "expected distinct classes"),
        ({"classes": ("circle", "circle")}, "expected distinct classes"),
        ({"min_side": 0.7}, "min_side 0.7, max_side 0.6"),
        ({"max_side": 1.5}, "max_side <= 1"),
        ({"min_objects": 7}, "min_objects 7, max_objects 6"),
        ({"min_visible": 0.0}, "min_visible 0.0"),
        ({"preset": "harder"}, "unknown preset 'harder'.*standard.*hard"),
        ({"length": -1}, "length -1"),
        ({"size": (128,)}, r"size \(128,\)"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesDetection(**{"length": 1, **arguments})


def test_same_seed_and_index_same_scene_whatever_was_read_before() -> None:
    source, again = ShapesDetection(length=20, seed=5), ShapesDetection(length=10, seed=5)
    for index in range(5):
        source.read(index)
    first, second = source.read(7), again.read(7)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_no_scene_occurs_twice_within_or_between_seeds() -> None:
    pictures = {
        source.scene(index).image.tobytes()
        for source in (ShapesDetection(length=40, seed=0), ShapesDetection(length=40, seed=1))
        for index in range(40)
    }
    assert len(pictures) == 80


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("size", [(128, 128), (96, 200), (65, 33), (9, 9), (1, 1)])
def test_boxes_and_masks_are_exact(preset: str, size: tuple[int, int]) -> None:
    boxed = ShapesDetection(length=20, size=size, seed=2, preset=preset)
    masked = ShapesSegmentation(length=20, size=size, seed=2, preset=preset)
    for index in range(20):
        scene, sample, mask = boxed.scene(index), boxed.read(index), masked.read(index).mask
        assert sample.image.shape == (*size, 3)
        assert sample.image.dtype == np.uint8
        expected = np.zeros(size, np.uint8)
        for number, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True), start=1):
            rows, columns = np.nonzero(scene.instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert sample.ground_truth["area"][number - 1] == len(rows)
            expected[rows, columns] = label
        np.testing.assert_array_equal(mask, expected)
        xywh = sample.ground_truth["boxes_xywh"]
        np.testing.assert_array_equal(xywh[:, 2:], (sample.boxes[:, 2:] - sample.boxes[:, :2]).astype(np.float64))


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.6), (0.08, 0.5), (0.3, 0.3), (1.0, 1.0)])
def test_sides_keep_within_their_limits(name: str, low: float, high: float) -> None:
    source = ShapesDetection(length=60, size=(150, 100), classes=[name], min_side=low, max_side=high, max_objects=1)
    boxes = np.concatenate([source.scene(index).boxes() for index in range(60)])
    sides = (boxes[:, 2:] - boxes[:, :2]) / 100
    assert len(boxes) == 60
    assert sides.max() <= high + 0.011
    assert sides.max() > high - 0.15 * high
    assert sides.max(axis=1).min() >= low - 0.03
    if low < high:
        assert sides.min() >= low - 0.03
        assert sides.min() < low + 0.12


@pytest.mark.parametrize("min_visible", [0.4, 1.0])
def test_overlaps_happen_and_leave_enough_to_see(min_visible: float) -> None:
    source = ShapesDetection(
        length=150, seed=1, classes=["square"], min_side=0.4, max_objects=4, min_visible=min_visible
    )
    areas = np.concatenate([source.scene(index).masks().sum(axis=(1, 2)) for index in range(150)])
    # The least area of a whole one: turned by 45 degrees it fills half of its box (a little less when stretched).
    whole = 0.97 * (0.4 * 128) ** 2 / 2
    assert areas.min() >= min_visible * whole
    assert (areas < whole).any() == (min_visible < 1)


def test_number_of_objects_spans_its_range() -> None:
    source = ShapesDetection(length=300, preset="hard", seed=4)
    counts = np.bincount([len(source.scene(index).classes) for index in range(300)], minlength=7)
    assert counts[0] == 0
    assert len(counts) == 7
    assert (counts[1:] > 15).all()


def _objects(preset: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class [n], mean colour [n, 3] and contrast to the surroundings [n] of the objects of some scenes."""
    source = ShapesDetection(length=number, preset=preset, seed=9)
    classes, colors, contrasts = [], [], []
    for index in range(number):
        scene = source.scene(index)
        lab = cv2.cvtColor(scene.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for kind, mask in zip(scene.classes, scene.masks().astype(np.uint8), strict=True):
            around = cv2.dilate(mask, np.ones((7, 7), np.uint8)) - cv2.dilate(mask, np.ones((3, 3), np.uint8))
            mean = lab[mask > 0].mean(axis=0)
            classes.append(kind)
            colors.append(scene.image[mask > 0].mean(axis=0))
            contrasts.append(np.median(np.linalg.norm(lab[around > 0] - mean, axis=1)))
    return np.array(classes), np.array(colors), np.array(contrasts)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_classes_are_balanced_visible_and_of_the_same_colours(preset: str) -> None:
    classes, colors, contrasts = _objects(preset, 400)
    number = len(PRESETS[preset].classes)
    share = np.bincount(classes, minlength=number) / len(classes)
    np.testing.assert_allclose(share, 1 / number, atol=0.05)
    # Variance of colour explained by the class; a class with a colour of its own would explain most of it.
    means = np.array([colors[classes == kind].mean(axis=0) for kind in range(number)])
    explained = (share[:, None] * (means - colors.mean(axis=0)) ** 2).sum(axis=0) / colors.var(axis=0)
    assert explained.max() < 0.02
    assert np.quantile(contrasts, 0.05) > 20
    assert colors.std(axis=0).min() > 40


def test_edges_are_antialiased() -> None:
    coverage = _coverage(np.random.default_rng(0), SHAPES["circle"], size=(128, 128), spec=SceneSpec())
    between = (coverage > 0.05) & (coverage < 0.95)
    assert between.sum() > 2 * coverage.shape[0]
    assert coverage.max() == 1
    assert len(np.unique(coverage)) > 8


def test_a_ring_has_a_hole_and_a_star_is_not_convex() -> None:
    for name, low, high in [("circle", 0.7, 0.85), ("ring", 0.45, 0.62), ("star", 0.2, 0.45), ("cross", 0.25, 0.7)]:
        scene = ShapesDetection(length=1, classes=[name], max_objects=1, size=(200, 200)).scene(0)
        x1, y1, x2, y2 = scene.boxes()[0]
        filled = (scene.instances > 0).sum() / ((x2 - x1) * (y2 - y1))
        assert low < filled < high, name
        centre = scene.instances[int(y1 + y2) // 2, int(x1 + x2) // 2]
        assert centre == (0 if name == "ring" else 1)


def test_shuffled_labels_change_nothing_but_the_labels() -> None:
    plain = ShapesDetection(length=200, seed=3)
    shuffled = ShapesDetection(length=200, seed=3, shuffle_labels=True)
    pairs = [(plain.read(index), shuffled.read(index)) for index in range(200)]
    for before, after in pairs:
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.boxes, after.boxes)
    labels = np.array([[b, a] for before, after in pairs for b, a in zip(before.labels, after.labels, strict=True)])
    assert 0.25 < (labels[:, 0] == labels[:, 1]).mean() < 0.42  # chance is 1/3
    assert set(labels[:, 1]) == {1, 2, 3}
    assert len(shuffled.notes) == 2
    assert "shuffled" in shuffled.notes[1]
    np.testing.assert_array_equal(shuffled.read(0).labels, pairs[0][1].labels)


def test_shuffled_segmentation_gives_each_object_one_class() -> None:
    source = ShapesSegmentation(length=50, seed=3, shuffle_labels=True)
    plain = ShapesSegmentation(length=50, seed=3)
    changed = 0
    for index in range(50):
        scene, mask, before = source.scene(index), source.read(index).mask, plain.read(index).mask
        for number, kind in enumerate(scene.classes, start=1):
            assert (mask[scene.instances == number] == kind + 1).all()
        np.testing.assert_array_equal(mask == 0, before == 0)
        changed += int((mask != before).any())
    assert changed > 25


def test_label_maps() -> None:
    boxes = ShapesDetection(length=1, preset="hard").labels
    assert boxes.num_classes == 6
    assert boxes.names[1] == "circle"
    assert 0 not in boxes.names
    masks = ShapesSegmentation(length=1).labels
    assert masks.num_classes == 4
    assert masks.names == {0: "background", 1: "circle", 2: "square", 3: "triangle"}


def test_notes_say_what_there_is() -> None:
    (note,) = ShapesDetection(length=7, size=[64, 96], seed=11).notes
    assert "7 generated scenes of 64x96, seed 11: 1 to 6 objects of the classes circle, square, triangle" in note
    assert "20 to 60 %" in note
