"""Reading files: what is read, and what is said about files that cannot be."""

import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from pocketvision.datasets.decode import check_size, decode_image, decode_instances, decode_mask, png_header


def _encode(path, array, ending=".png"):
    cv2.imencode(ending, array)[1].tofile(path)


@pytest.mark.parametrize("name", ["IMG (1).png", "a,b.png", "a=b.png", "über [2].png", "日本.png"])
def test_names(tmp_path, name):
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    _encode(tmp_path / name, image[..., ::-1])
    np.testing.assert_array_equal(decode_image(tmp_path / name), image)
    _encode(tmp_path / name, image[..., 0])
    np.testing.assert_array_equal(decode_mask(tmp_path / name), image[..., 0])


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_other_kinds_of_images_become_rgb(tmp_path, mode):
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    image = decode_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)


def test_exif_orientation_is_followed(tmp_path):
    picture = Image.new("RGB", (8, 4))
    picture.paste((255, 0, 0), (0, 0, 4, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left side comes to the top
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = decode_image(tmp_path / "a.jpg")
    assert image.shape == (8, 4, 3)
    assert image[0, 0, 0] > 200 > 50 > image[-1, 0, 0]


@pytest.mark.parametrize("read", [decode_image, decode_mask])
def test_files_that_are_no_pictures(tmp_path, read):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    whole = cv2.imencode(".png", np.zeros((50, 50), np.uint8))[1].tobytes()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    palette = Image.new("P", (20, 20))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "palette.png")
    (tmp_path / "cut_palette.png").write_bytes((tmp_path / "palette.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        read(tmp_path / "empty.png")
    for name in ("text.jpg", "cut.png", "cut_palette.png"):
        with pytest.raises(ValueError, match=rf"{name} does not decode"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"not found: .*none\.png"):
        read(tmp_path / "none.png")


def test_too_many_pixels(tmp_path):
    bomb = bytearray(cv2.imencode(".png", np.zeros((5, 5), np.uint8))[1].tobytes())
    bomb[16:24] = (1 << 20).to_bytes(4, "big") * 2  # a header of 2**40 pixels
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(bomb))
    with pytest.raises(ValueError, match=r"bomb\.png does not decode: "):
        decode_image(tmp_path / "bomb.png")


def test_masks_are_read_as_numbers(tmp_path):
    values = np.array([[0, 1, 2], [3, 11, 255]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([7, 7, 7] * 256)  # the colours say nothing
    palette.save(tmp_path / "palette.png")
    few = Image.fromarray(values % 4)
    few.putpalette([50, 60, 70] * 4)
    few.save(tmp_path / "few.png", bits=2)
    Image.fromarray(values % 2 > 0).save(tmp_path / "bit.png")
    _encode(tmp_path / "rgb.png", np.stack([values] * 3, 2))
    _encode(tmp_path / "wide.png", values.astype(np.uint16))
    expected = {"palette": values, "few": values % 4, "bit": values % 2, "rgb": values, "wide": values}
    for name, mask in expected.items():
        found = decode_mask(tmp_path / f"{name}.png")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, mask, err_msg=name)


def test_masks_that_hold_no_class_numbers(tmp_path):
    _encode(tmp_path / "colour.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    _encode(tmp_path / "instances.png", np.full((2, 2), 26001, np.uint16))
    with pytest.raises(ValueError, match=r"colour\.png has 3 channels of colour.*class numbers"):
        decode_mask(tmp_path / "colour.png")
    with pytest.raises(ValueError, match=r"instances\.png holds uint16 values up to 26001"):
        decode_mask(tmp_path / "instances.png")


def test_instance_ids(tmp_path):
    for dtype in (np.uint16, np.uint8):
        ids = np.array([[7, 33], [26, 200]], dtype) if dtype == np.uint8 else np.array([[7, 26001, 33999]], dtype)
        _encode(tmp_path / "ids.png", ids)
        found = decode_instances(tmp_path / "ids.png")
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, ids)
    _encode(tmp_path / "colour.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"colour\.png holds uint8 \[2, 2, 3\]: expected instance ids"):
        decode_instances(tmp_path / "colour.png")
    with pytest.raises(FileNotFoundError, match="instance file not found"):
        decode_instances(tmp_path / "none.png")


def test_png_header(tmp_path):
    _encode(tmp_path / "a.png", np.zeros((3, 5), np.uint16))
    data = np.fromfile(tmp_path / "a.png", np.uint8)
    assert png_header(data) == ((3, 5), 16, 0)
    assert png_header(data[:25]) is None
    assert png_header(data[1:]) is None


def test_size_contradicts_the_annotation():
    check_size((3, 4), (3, 4), path="a.jpg", source="b.json")
    with pytest.raises(ValueError, match=r"a\.jpg decodes to 4x3.*b\.json says 3x4.*EXIF"):
        check_size((3, 4), (4, 3), path="a.jpg", source="b.json")
    with pytest.raises(ValueError, match=r"a\.jpg decodes to 4x3.*b\.json says 4x9\.$"):
        check_size((3, 4), (9, 4), path="a.jpg", source="b.json")
