"""CamVid's three kinds of label pictures give the same class numbers."""

import cv2
import numpy as np
import pytest
from pocketvision.datasets.images.decode import mask_from_bytes
from pocketvision.datasets.preparing.camvid import CLASSES, VOID, checked_numbers, from_colors, from_numbers, split_of


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def numbers(content: bytes) -> np.ndarray:
    return mask_from_bytes(np.frombuffer(content, np.uint8), "made.png")


@pytest.mark.parametrize(
    ("frame", "split"),
    [
        ("", None),
        ("0016E5_1", None),
        ("0016E5_07957", "train"),
        ("0016E5_07959", "val"),
        ("0016E5_08159", "val"),
        ("0016E5_08190", "train"),
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("Seq05VD_f00000", "test"),
        ("0006R0_f00930", "train"),
    ],
)
def test_splits(frame: str, split: str | None) -> None:
    assert split_of(frame) == split


def test_the_known_splits_are_met(data_root) -> None:
    for split in ("train", "val"):
        names = [path.stem for path in (data_root / "camvid" / split / "images").iterdir()]
        assert {split_of(name) for name in names} == {split}


def test_every_class_in_both_forms() -> None:
    expected = np.repeat([[number for _, number in CLASSES.values()]], 40, axis=0).astype(np.uint8)
    colors = np.array([[color[::-1] for color, _ in CLASSES.values()]] * 40, np.uint8)
    indices = np.repeat([np.arange(len(CLASSES))], 40, axis=0).astype(np.uint8)
    assert set(expected.flat) == set(range(VOID + 1))
    for made in (from_colors(png(colors), "a.png"), from_numbers(png(indices), "a.png")):
        np.testing.assert_array_equal(numbers(made), expected)
    assert checked_numbers(png(expected), "a.png") == png(expected)


def test_some_strange_pixels_are_void_and_many_an_error() -> None:
    colors = np.full((20, 20, 3), 128, np.uint8)  # sky
    colors[0, 0], colors[0, 1] = (1, 2, 3), (64, 64, 192)
    mask = numbers(from_colors(png(colors), "a.png"))
    assert mask[0, :3].tolist() == [VOID, VOID, 0]
    colors[1] = 5
    with pytest.raises(ValueError, match="not CamVid labels"):
        from_colors(png(colors), "a.png")


@pytest.mark.parametrize("convert", [from_colors, from_numbers, checked_numbers])
@pytest.mark.parametrize(
    "content", [b"", b"no png", png(np.zeros((9, 9), np.uint8))[:45]], ids=["empty", "text", "cut"]
)
def test_what_does_not_decode_is_named(convert, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a\.png"):
        convert(content, "a.png")


@pytest.mark.parametrize("convert", [from_colors, from_numbers, checked_numbers])
def test_a_picture_of_gigapixels_is_not_decoded(convert) -> None:
    content = bytearray(png(np.zeros((9, 9), np.uint8)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ValueError, match="60000x60000"):
        convert(bytes(content), "a.png")


@pytest.mark.parametrize(("convert", "value"), [(from_numbers, 32), (checked_numbers, 12)])
def test_other_numbers_are_an_error(convert, value: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        convert(png(np.full((2, 2), value, np.uint8)), "a.png")
