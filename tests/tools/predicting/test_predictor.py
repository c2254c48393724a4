"""Models as callables: what an image may be, and what a result can tell."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pocketvision
import pytest
import torch
from PIL import Image
from pocketvision.datasets.labels import CITYSCAPES, detection_labels, segmentation_labels
from pocketvision.tools.config.build import build_source, build_task, compose
from pocketvision.tools.drawing.annotate import class_colors
from pocketvision.tools.predicting.predictor import Predictor, to_rgb
from pocketvision.tools.predicting.result import Result
from pocketvision.tools.runs.loaded import LoadedRun, run_or_published


@pytest.fixture(scope="module")
def models(enliven: Callable) -> dict[str, Predictor]:
    """Untrained, but what they find depends on what they see."""
    made, images = {}, torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8))
    for kind in ("detection", "segmentation"):
        config = compose(f"experiment=demo_{kind}", "data.input_size=[64,64]", "backbone.width=0.35")
        task = build_task(config, labels=build_source(config, "val").labels)
        enliven(task.model, images).float()
        made[kind] = Predictor(LoadedRun(task=task, config=config, folder=Path("."), path=Path("x"), step=0))
    return made


PHOTO = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
GREY = np.repeat(PHOTO[..., :1], 3, axis=2)
CLEAR = np.dstack([PHOTO, np.full((40, 52), 128, np.uint8)])
TURNED = Image.fromarray(PHOTO)
TURNED.getexif()[0x0112] = 6


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PHOTO, PHOTO),
        (PHOTO[..., 0], GREY),
        (PHOTO[..., :1], GREY),
        (CLEAR, 255 - (255 - PHOTO.astype(int)) * 128 / 255),
        (PHOTO.astype(np.uint16) * 257, PHOTO),
        (PHOTO / np.float32(255), PHOTO),
        (PHOTO / 255, PHOTO),
        (PHOTO[:, ::-1][:, ::-1], PHOTO),
        (torch.from_numpy(PHOTO).permute(2, 0, 1), PHOTO),
        (torch.from_numpy(PHOTO).permute(2, 0, 1) / 255, PHOTO),
        (torch.from_numpy(PHOTO).permute(2, 0, 1).double().requires_grad_() / 255, PHOTO),
        (torch.from_numpy(PHOTO[..., 0])[None], GREY),
        (torch.from_numpy(PHOTO[..., 0]), GREY),
        (Image.fromarray(PHOTO), PHOTO),
        (TURNED, np.rot90(PHOTO, -1)),
        (Image.fromarray(PHOTO[..., 0]), GREY),
        (Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257), GREY),
        (Image.fromarray(PHOTO[..., 0].astype(np.int32) * 257), GREY),
        (Image.fromarray(PHOTO[..., 0] / np.float32(255)), GREY),
        (Image.fromarray(CLEAR), 255 - (255 - PHOTO.astype(int)) * 128 / 255),
        (cv2.imencode(".png", PHOTO[..., ::-1])[1].tobytes(), PHOTO),
        (bytearray(cv2.imencode(".png", PHOTO[..., ::-1])[1].tobytes()), PHOTO),
    ],
)
def test_images_of_every_kind(image: Any, expected: np.ndarray) -> None:
    found = to_rgb(image)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "path, a file's bytes.*got NoneType"),
        (3, "got int"),
        (np.zeros(0, np.uint8), r"got \[0\]"),
        (np.zeros((0, 5, 3), np.uint8), r"got \[0, 5, 3\]"),
        (np.zeros((3, 5, 9), np.uint8), r"got \[3, 5, 9\]. This one looks like \[3, H, W\]: use array.transpose"),
        (np.zeros((4, 5, 2), np.uint8), r"RGB \[H, W, 3\], gray \[H, W\] or RGBA.*got \[4, 5, 2\]$"),
        (np.zeros((4, 5, 3), np.int64), "the array contains int64"),
        (np.full((4, 5, 3), 200.0), "float64 from 0 to 200: expected floats from 0 to 1"),
        (np.zeros((4, 5, 3), bool), "contains bool"),
        (torch.zeros(4, 5, 3), r"tensor must be \[3, H, W\].*got \[4, 5, 3\]. .*: use tensor.permute"),
        (torch.full((3, 4, 5), -2.1), "from -2.1 to 0.*not normalized"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "contains int64"),
        (b"", "the data is empty"),
        (b"no picture", "the data cannot be decoded"),
    ],
)  # fmt: skip
def test_what_is_no_image(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_rgb(image)


def test_files(models: dict[str, Predictor], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imencode(".png", PHOTO[..., ::-1])[1].tofile(path)
    for name in (path, str(path)):
        result = models["detection"](name)
        assert result.path == str(path)
        np.testing.assert_array_equal(result.image, PHOTO)
    with pytest.raises(FileNotFoundError, match=r"not found: .*b\.png"):
        models["detection"](tmp_path / "b.png")


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_one_many_and_batches(kind: str, models: dict[str, Predictor]) -> None:
    model = models[kind]
    assert model([]) == []
    alone, other = model(PHOTO), model(PHOTO[::-1])
    assert isinstance(alone, Result)
    found = alone.scores if kind == "detection" else alone.mask
    assert len(np.unique(found)) > 1
    assert not np.array_equal(found, other.scores if kind == "detection" else other.mask)
    pair = np.stack([PHOTO, PHOTO[::-1]])
    tensors = torch.from_numpy(pair.copy()).permute(0, 3, 1, 2)
    for images in (
        list(pair),
        tuple(pair),
        pair,
        tensors,
        tensors / 255,
        iter(pair),
        [PHOTO, Image.fromarray(pair[1])],
    ):
        for batch_size in (1, 16):
            results = model(images if not hasattr(images, "__next__") else iter(pair), batch_size=batch_size)
            assert len(results) == 2
            for result, expected in zip(results, (alone, other), strict=True):
                if kind == "segmentation":
                    assert (result.mask == expected.mask).mean() > 0.99
                else:
                    np.testing.assert_allclose(result.scores[:5], expected.scores[:5], atol=1e-4)
    with pytest.raises(ValueError, match="batch_size=0"):
        model([PHOTO], batch_size=0)


def test_a_stream_reads_no_further_than_its_batch(models: dict[str, Predictor]) -> None:
    drawn = []

    def photos() -> Any:
        for number in range(100):
            drawn.append(number)
            yield PHOTO

    stream = models["detection"].stream(photos(), batch_size=3)
    next(stream)
    assert len(drawn) == 3


def test_a_predictor_tells_what_it_is(models: dict[str, Predictor]) -> None:
    assert re.fullmatch(r"<Predictor for detection, \d classes \(.*\), on cpu>", repr(models["detection"]))


LABELS = detection_labels([(1, "person", None), (18, "dog", None), (44, "bottle", None)])


def boxes(*scores: float, slots: tuple[int, ...] | None = None) -> Result:
    corners = np.array([[10 * i, 5, 10 * i + 8, 25.5] for i in range(len(scores))], np.float32).reshape(-1, 4)
    numbers = np.array(slots or [1 + i % 3 for i in range(len(scores))], np.int64)
    return Result(PHOTO, LABELS, boxes=corners, scores=np.array(scores, np.float32), labels=numbers)


def test_repr_is_short() -> None:
    assert repr(boxes()) == "<Result image 52x40: no boxes>"
    assert repr(boxes(0.9, 0.8, 0.1)) == "<Result image 52x40: 3 boxes, 2 above 0.5: 1 person, 1 dog>"
    assert repr(boxes(0.2)) == "<Result image 52x40: 1 box, 0 above 0.5>"
    mask = Result(PHOTO, segmentation_labels(["sky", "road"]), "a.jpg", mask=np.zeros((40, 52), np.uint8))
    assert repr(mask) == "<Result a.jpg 52x40: sky 100%>"
    many = np.arange(40 * 52).reshape(40, 52) % 9
    labels = segmentation_labels([f"c{i}" for i in range(9)])
    assert repr(Result(PHOTO, labels, mask=many.astype(np.uint8))).endswith("% and 4 more>")
    ranked = Result(PHOTO, segmentation_labels(["a", "b"]), scores=np.array([0.7, 0.3]), labels=np.array([1, 0]))
    assert repr(ranked) == "<Result image 52x40: b 0.70, a 0.30>"


def test_coco_entries() -> None:
    assert boxes().to_coco(5) == []
    entries = boxes(0.9, 0.1, slots=(2, 9)).to_coco(image_id=5)
    assert entries == [{"image_id": 5, "category_id": 18, "bbox": [0.0, 5.0, 8.0, 20.5], "score": pytest.approx(0.9)}]
    with pytest.raises(ValueError, match="is not a detector"):
        Result(PHOTO, LABELS, mask=PHOTO[..., 0]).to_coco(5)


def test_only_some_classes_and_scores() -> None:
    assert len(boxes().only(["dog"]).boxes) == 0
    found = boxes(0.9, 0.8, 0.7, 0.2).only(["person", "bottle"])
    assert found.names == ["person", "bottle", "person"]
    assert found.above(0.5).names == ["person", "bottle"]
    mask = Result(PHOTO, CITYSCAPES, mask=np.repeat([[0, 13]], 20, 0).repeat(26, 1).repeat(2, 0).astype(np.uint8))
    cars = mask.only(["car"])
    assert set(np.unique(cars.mask)) == {13, 255}
    assert cars.names == ["car", "others"]
    assert [name for _, name, _ in cars.shares()] == ["car"]
    assert not np.array_equal(cars.draw(), mask.draw())
    assert set(np.unique(mask.label_ids())) == {7, 26}  # Cityscapes' labelIds
    assert {tuple(color) for color in mask.colors().reshape(-1, 3)} == {(128, 64, 128), (0, 0, 142)}
    assert class_colors(CITYSCAPES) == {label.slot: label.color for label in CITYSCAPES.labels}


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_pictures_for_notebooks(kind: str, models: dict[str, Predictor]) -> None:
    result = models[kind](PHOTO)
    png = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(png[..., ::-1], result.draw())
    assert result.draw(enlarge=False).shape == PHOTO.shape
    large = Result(np.zeros((1500, 3000, 3), np.uint8), LABELS, boxes=np.zeros((0, 4)), scores=np.zeros(0),
                   labels=np.zeros(0, int))  # fmt: skip
    assert cv2.imdecode(np.frombuffer(large._repr_png_(), np.uint8), cv2.IMREAD_COLOR).shape == (640, 1280, 3)


def test_published_weights_have_no_checkpoints() -> None:
    with pytest.raises(ValueError, match="a published network has no checkpoints of a run: drop checkpoint"):
        pocketvision.load("ssdlite_torchvision", weights="x.pth", checkpoint="last")
    config = compose("model=ssdlite_torchvision", "weights=x.pth", "checkpoint=last", config_name="predict")
    with pytest.raises(ValueError, match="checkpoint=last chooses one of a run's checkpoints"):
        run_or_published(config, otherwise="")
