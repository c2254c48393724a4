"""Pictures: right place, right colour, readable, inside the frame."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.labels import CITYSCAPES, Label, LabelMap, segmentation_labels
from pocketvision.tools.drawing import annotate, lettering
from pocketvision.tools.drawing.annotate import (
    class_colors,
    draw_detections,
    draw_mask,
    grid,
    ink_on,
    palette,
    side_by_side,
    zoom_for,
)
from pocketvision.tools.drawing.pictures import shrink


def _photo(height: int = 480, width: int = 640, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def _has(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where the picture has (almost) this colour."""
    return (np.abs(image.astype(int) - color) <= 2).all(axis=-1)


def test_nothing_to_draw() -> None:
    photo = _photo()
    for boxes, labels, scores in [([], [], None), (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]:
        picture = draw_detections(photo, boxes, labels, scores)
        np.testing.assert_array_equal(picture, photo)
        assert picture is not photo
    untinted = draw_mask(photo, np.zeros(photo.shape[:2], np.uint8), {0: None}, names={0: "background"})
    np.testing.assert_array_equal(untinted, photo)
    assert grid([], 3).ndim == 3
    assert side_by_side([], []).ndim == 3
    assert palette(0) == []


def test_inputs_stay_as_they_are() -> None:
    photo, boxes, mask = _photo(), np.array([[10.0, 10, 50, 50]]), np.ones((480, 640), np.uint8)
    draw_detections(photo, boxes, [1], [0.5], crowd=boxes)
    draw_mask(photo, mask, names={1: "circle"})
    side_by_side([photo], ["photograph"])
    assert (photo == 90).all()
    assert (boxes == [10, 10, 50, 50]).all()
    assert (mask == 1).all()


def test_palette_is_distinct_and_grows_at_its_end() -> None:
    colors = palette(100)
    assert palette(7) == colors[:7]
    assert palette(64) == colors[:64]
    assert len(set(colors)) == 100
    seen = annotate._perceived(np.array(colors[:20]))
    nearest = min(np.linalg.norm(a - b, axis=-1).min() for a, b in itertools.combinations(seen, 2))
    assert nearest > 15  # CIELAB, the worse of normal and deuteranope eyes


def test_class_colors() -> None:
    assert class_colors(CITYSCAPES)[0] == (128, 64, 128)
    assert class_colors(segmentation_labels(["background", "cat"])) == {0: None, 1: palette(1)[0]}
    assert class_colors(segmentation_labels(["sky", "tree"])) == dict(enumerate(palette(2)))
    assert class_colors(LabelMap((Label(90, "toothbrush", 90),), 90)) == {90: palette(90)[-1]}


@pytest.mark.parametrize(("color", "ink"), [((255, 255, 0), 0), ((0, 0, 140), 255), ((255, 255, 255), 0)])
def test_ink_contrasts(color: tuple[int, int, int], ink: int) -> None:
    assert ink_on(color) == (ink, ink, ink)


@pytest.mark.parametrize(
    ("size", "zoom"), [((128, 128), 4), ((320, 320), 2), ((480, 640), 1), ((1024, 2048), 1), ((9, 9), 53)]
)
def test_small_pictures_are_enlarged(size: tuple[int, int], zoom: int) -> None:
    photo = _photo(*size)
    assert zoom_for(photo) == zoom
    shape = (size[0] * zoom, size[1] * zoom, 3)
    assert draw_detections(photo, [[0, 0, 5, 5]], [1]).shape == shape
    assert draw_mask(photo, np.zeros(size, np.uint8)).shape == shape


@pytest.mark.parametrize(
    ("size", "side", "expected"), [((9, 9), 9, (9, 9)), ((40, 80), 20, (10, 20)), ((1, 2000), 480, (1, 480))]
)
def test_large_pictures_are_shrunk(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert shrink(_photo(*size), side).shape == (*expected, 3)


@pytest.mark.parametrize("size", [(128, 128), (480, 640), (1024, 2048)])
def test_box_lies_where_it_should(size: tuple[int, int]) -> None:
    photo, zoom = _photo(*size), zoom_for(_photo(*size))
    box = np.array([0.25 * size[1], 0.5 * size[0], 0.75 * size[1], 0.9 * size[0]])
    picture = draw_detections(photo, [box], [3], colors={3: (250, 20, 30)})
    rows, columns = np.nonzero(_has(picture, (250, 20, 30))[int(box[1] * zoom) :])
    slack = annotate._line_width(picture)
    assert abs(columns.min() - box[0] * zoom) <= slack
    assert abs(columns.max() + 1 - box[2] * zoom) <= slack
    assert abs(rows.max() + 1 + box[1] * zoom - box[3] * zoom) <= slack
    inside = picture[int(0.6 * size[0] * zoom) : int(0.8 * size[0] * zoom), int(0.4 * size[1] * zoom)]
    assert (inside == 90).all()


def _plates(photo: np.ndarray, boxes: list, names: dict[int, str]) -> list[tuple[int, int, int, int]]:
    plates = annotate._Plates(photo)
    for number, box in enumerate(boxes, start=1):
        plates.add(names[number], np.array(box, float), (0, 0, 0))
    return [placed[0] for placed in plates.placed]


@pytest.mark.parametrize("size", [(480, 640), (480, 60), (1024, 2048)])
def test_plates_keep_inside_and_apart(size: tuple[int, int]) -> None:
    h, w = size
    corners = [
        [0, 0, 5, 5],
        [w - 5, 0, w, 5],
        [0, h - 5, 5, h],
        [w - 5, h - 5, w, h],
        [0, 0, w, h],
        [-50, -50, -10, -9],
    ]
    spots = _plates(_photo(*size), corners, dict.fromkeys(range(1, 7), "a rather long class name"))
    assert len(spots) >= 2
    for x, y, width, height in spots:
        assert 0 <= x <= x + width <= w
        assert 0 <= y <= y + height <= h
    for a, b in itertools.combinations(spots, 2):
        assert annotate._overlap(a, b) <= 0.1 * min(a[2] * a[3], b[2] * b[3])


def test_plates_without_room_are_left_out() -> None:
    spots = _plates(_photo(), [[100, 100, 110, 110]] * 60, dict.fromkeys(range(1, 61), "donut"))
    assert 3 <= len(spots) <= 12


def test_text_grows_with_the_picture() -> None:
    (small,), (large,) = (_plates(_photo(h, 2 * h), [[50, 200, 300, 300]], {1: "car"}) for h in (500, 2000))
    assert large[3] > 2.5 * small[3]
    assert small[3] >= 14


def test_best_scores_lie_on_top() -> None:
    boxes = [[100, 100, 300, 300]] * 2
    for scores, top in [([0.9, 0.2], 1), ([0.2, 0.9], 2)]:
        picture = draw_detections(_photo(), boxes, [1, 2], scores, colors={1: (250, 0, 0), 2: (0, 250, 0)})
        assert _has(picture, (250, 0, 0) if top == 1 else (0, 250, 0))[250, 95:105].any()
        assert not _has(picture, (0, 250, 0) if top == 1 else (250, 0, 0))[250, 95:105].any()


def test_boxes_that_reach_outside_are_cut_at_the_border() -> None:
    inside = draw_detections(_photo(), [[0, 0, 640, 200]], [1])
    np.testing.assert_array_equal(draw_detections(_photo(), [[-1e12, -5, 1e12, 200]], [1]), inside)


def test_crowd_is_dashed() -> None:
    side = [
        _has(draw_detections(_photo(), **kind), annotate.GREY)[150:450, 100]
        for kind in (
            {"boxes": [], "labels": [], "crowd": [[100, 100, 500, 460]]},
            {"boxes": [[100, 100, 500, 460]], "labels": [1], "colors": {1: annotate.GREY}},
        )
    ]
    assert 0.3 < side[0].mean() < 0.7
    assert side[1].all()


def test_crowd_is_hatched() -> None:
    picture = draw_detections(_photo(), [], [], crowd=[[100, 100, 500, 460], [600, 400, 9999, 9999], [5, 5, 5, 5]])
    lines = (picture[280, 120:480] != 90).any(axis=1)
    assert 0.1 < lines.mean() < 0.3
    assert np.diff(lines.astype(int)).clip(0).sum() > 10
    assert (picture[470:, :550] == 90).all()


@pytest.mark.parametrize("size", [(64, 64), (36, 64), (120, 2400)])
def test_frames_of_a_video_keep_their_size(size: tuple[int, int]) -> None:
    photo, mask = _photo(*size), np.arange(size[0] * size[1]).reshape(size) // (size[1] * 4) % 19
    for picture in (
        draw_detections(photo, [[5, 5, 30, 30]], [1], [0.5], {1: "car"}, enlarge=False),
        draw_mask(photo, mask, names={i: f"class {i}" for i in range(19)}, enlarge=False),
        annotate.draw_caption(photo, ["a cat", "a dog", "a long name of something"], enlarge=False),
    ):
        assert picture.shape == photo.shape
        assert (picture != 90).any()
    assert np.array_equal(annotate.draw_caption(photo, [], enlarge=False), photo)
    whole = draw_mask(photo, np.zeros(size, np.uint8), names={0: "background"}, enlarge=False)
    assert np.array_equal(whole, photo)


def test_legends_on_frames_keep_the_order_of_the_classes() -> None:
    mask = np.full((480, 640), 2, np.uint8)
    mask[:100] = 1
    legend = draw_mask(_photo(), mask, {1: (200, 0, 0), 2: (0, 0, 200)}, names={1: "a", 2: "b"}, enlarge=False)[460]
    reds, blues = (np.flatnonzero(legend[:, i].astype(int) - legend[:, 2 - i] > 100) for i in (0, 2))
    assert reds.max() < blues.min()


def test_classes_that_were_filtered_out_are_not_hatched() -> None:
    photo, mask = _photo(), np.full((480, 640), 255, np.uint8)
    assert not np.array_equal(draw_mask(photo, mask), photo)
    np.testing.assert_array_equal(draw_mask(photo, mask, {255: None}, names={}), photo)


def test_a_panorama_does_not_drown_in_its_text() -> None:
    for shape in ((1200, 6000), (2400, 120)):
        (plate,) = _plates(_photo(*shape), [[10, 200, 100, 300]], {1: "person"})
        assert plate[3] < 0.1 * max(200, min(shape))


@pytest.mark.parametrize(
    ("text", "expected"), [("Ñandú", "Nandu"), ("Straße 0.87", "Strasse 0.87"), ("猫 0.5", "? 0.5"), ("", "")]
)
def test_text_where_opencv_has_only_ascii(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_HAS_UNICODE", False)
    assert lettering.drawable(text) == expected
    monkeypatch.setattr(lettering, "_HAS_UNICODE", True)
    assert lettering.drawable(text) == text


def test_torch_tensors_and_lists_give_the_same_picture() -> None:
    boxes, labels, scores = [[10.0, 20, 200, 300]], [2], [0.75]
    expected = draw_detections(_photo(), boxes, labels, scores, {2: "dog"})
    tensors = torch.tensor(boxes, requires_grad=True), torch.tensor(labels), torch.tensor(scores)
    np.testing.assert_array_equal(draw_detections(_photo(), *tensors, {2: "dog"}), expected)
    halves = [tensor.bfloat16() for tensor in tensors]
    np.testing.assert_array_equal(draw_detections(_photo(), *halves, {2: "dog"}), expected)
    mask = np.random.default_rng(0).integers(0, 3, (480, 640)).astype(np.uint8)
    np.testing.assert_array_equal(draw_mask(_photo(), torch.from_numpy(mask)), draw_mask(_photo(), mask))


def test_mask_is_tinted_outlined_and_hatched() -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[100:300, 100:300], mask[350:450, 350:600] = 1, 255
    picture = draw_mask(_photo(), mask, {0: None, 1: (200, 0, 0)}, 0.5)
    assert (picture[50, 50] == 90).all()
    assert np.abs(picture[200, 200].astype(int) - (145, 45, 45)).max() <= 1
    assert (picture[101, 101] == (200, 0, 0)).all()
    hatched = picture[360:440, 360:590]
    assert len(np.unique(hatched)) == 2
    assert (np.diff(hatched[40].astype(int), axis=0) != 0).any(axis=1).sum() > 10


def test_enlarged_masks_keep_thin_and_lonely_pixels() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[64, 10:60] = mask[10, 100] = 1
    tinted = _has(draw_mask(_photo(128, 128), mask, {0: None, 1: (200, 0, 0)}, 1.0), (200, 0, 0))
    assert tinted[64 * 4 + 2, 60:220].all()
    assert tinted[42, 402]
    assert not tinted[300:].any()


def test_legend_names_what_is_present_and_nothing_else() -> None:
    names = {0: "background", 1: "circle", 2: "square"}
    colors = {0: None, 1: (200, 0, 0), 2: (0, 0, 200)}
    mask = np.ones((480, 640), np.uint8)
    strip = draw_mask(_photo(), mask, colors, names=names)[480:]
    assert _has(strip, (200, 0, 0)).any()
    assert not _has(strip, (0, 0, 200)).any()
    mask[:10] = 2
    longer = draw_mask(_photo(), mask, colors, names=names)[480:]
    assert _has(longer, (0, 0, 200)).any()
    mask[10:20] = 255
    longest = draw_mask(_photo(), mask, colors, names=names)[480:]
    ends = [np.flatnonzero((legend < 250).any(axis=(0, 2))).max() for legend in (strip, longer, longest)]
    assert ends[0] + 50 < ends[1] < ends[2] - 50


def test_long_legends_wrap_inside_the_picture() -> None:
    mask = np.arange(480 * 640).reshape(480, 640) % 19
    names = {slot: f"class number {slot}" for slot in range(19)}
    picture = draw_mask(_photo(), mask, dict(enumerate(palette(19))), names=names)
    assert picture.shape[1] == 640
    assert picture.shape[0] > 480 + 60
    assert all(_has(picture[480:], color).any() for color in palette(19))
    assert (picture[481:, -2:] == 255).all()


def test_grid_and_rows() -> None:
    sheet = grid([_photo(100, 200, 1), _photo(50, 80, 2), _photo(60, 60, 3)], 2)
    assert [(sheet[..., 0] == value).sum() for value in (1, 2, 3)] == [100 * 200, 50 * 80, 60 * 60]
    gap = 4
    assert sheet.shape == (3 * gap + 200, 3 * gap + 400, 3)
    row = side_by_side([_photo(128, 128, 1), _photo(512, 512, 2)], ["a", "b"])
    ones, twos = ((row[..., 0] == value).nonzero() for value in (1, 2))
    assert len(ones[0]) == len(twos[0]) == 512 * 512
    assert ones[0].min() == twos[0].min() > 10  # equally large, aligned, below their titles
    assert (row[: ones[0].min()] < 100).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_detections(_photo(), [[0, 0, 1, 1]], []), "1 box, 0 labels, no scores"),
        (lambda: draw_detections(_photo(), [[0, 0, 1, 1]], [1], [0.1, 0.2]), "1 label, 2 scores"),
        (lambda: draw_detections(_photo().astype(float), [], []), "float64.*expected uint8"),
        (lambda: draw_mask(_photo(), np.zeros((3, 4), np.uint8)), r"mask is \(3, 4\), but its image is \(480, 640\)"),
        (lambda: side_by_side([_photo()], []), "1 image, 0 titles"),
        (lambda: grid([_photo()], 0), "columns=0"),
    ],
)
def test_mistakes_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_opencv_text_never_leaves_its_plate() -> None:
    """OpenCV 4 and 5 have different fonts: what counts is that the measured size holds the ink."""
    for text in ("Agjpq", "traffic light 0.87", "0.00"):
        canvas = _photo(100, 400, 255)
        width, height = lettering.text_size(text, 0.8)
        lettering.put_text(canvas, text, (20, 20), 0.8, (0, 0, 0))
        x, y, w, h = cv2.boundingRect((canvas[..., 0] < 128).astype(np.uint8))
        assert x >= 19
        assert y >= 19
        assert x + w <= 21 + width
        assert y + h <= 21 + height


def test_a_caption_stands_below_the_whole_image() -> None:
    image = np.full((500, 300, 3), 77, np.uint8)
    assert np.array_equal(annotate.draw_caption(image, []), image)
    one, two = annotate.draw_caption(image, ["a cat"]), annotate.draw_caption(image, ["a cat", "a longer name " * 4])
    assert np.array_equal(one[:500], image)
    assert one.shape[1] == two.shape[1] == 300
    assert two.shape[0] - one.shape[0] == one.shape[0] - 500 > 10
    assert (one[500:] < 100).any()
    assert (two[one.shape[0] :, 200:] < 250).any()  # it fits, to the end
    assert (two[:, -2:][500:] == 255).all()
    red = annotate.draw_caption(image, ["a cat"], (200, 30, 30))
    assert not np.array_equal(red, one)
