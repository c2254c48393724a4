"""Reading files: what is read, and what is said about files that cannot be."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features
from pocketvision.datasets.images.decode import (
    check_size,
    decode_bytes,
    decode_image,
    decode_instances,
    decode_mask,
    to_uint8,
)
from pocketvision.datasets.images.files import image_size
from pocketvision.datasets.images.headers import png_header


def _encode(path, array, ending=".png"):
    cv2.imencode(ending, array)[1].tofile(path)


@pytest.mark.parametrize("name", ["IMG (1).png", "a,b.png", "a=b.png", "über [2].png", "日本.png"])
def test_names(tmp_path, name):
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    _encode(tmp_path / name, image[..., ::-1])
    np.testing.assert_array_equal(decode_image(tmp_path / name), image)
    _encode(tmp_path / name, image[..., 0])
    np.testing.assert_array_equal(decode_mask(tmp_path / name), image[..., 0])


def _stored(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


BIT_FORMATS = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "pbm": "PPM"}
RAMP = np.tile(np.linspace(0, 255, 52, dtype=np.uint8), (40, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], 2)
ALPHA = np.where(np.arange(52) < 26, 0, 255).astype(np.uint8) * np.ones((40, 1), np.uint8)
RGBA = Image.fromarray(np.dstack([COLOURS, ALPHA]))
FEW = Image.fromarray(COLOURS).quantize(16)
OVER_WHITE = np.where(ALPHA[..., None] > 0, COLOURS, 255)
GREY3 = np.stack([RAMP] * 3, 2)
TRANSPARENT_INDEX = FEW.getpixel((0, 0))
FEW_OVER_WHITE = np.where(np.asarray(FEW)[..., None] == TRANSPARENT_INDEX, 255, np.asarray(FEW.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(_stored(Image.fromarray(RAMP), "PNG"), GREY3, id="grey"),
        pytest.param(_stored(Image.fromarray(RAMP), "TIFF"), GREY3, id="grey TIFF"),
        pytest.param(_stored(Image.fromarray(COLOURS).convert("CMYK"), "TIFF"), COLOURS, id="CMYK TIFF"),
        pytest.param(_stored(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=98), COLOURS, id="CMYK JPEG"),
        pytest.param(_stored(FEW, "PNG"), np.asarray(FEW.convert("RGB")), id="palette"),
        pytest.param(_stored(FEW, "PNG", transparency=TRANSPARENT_INDEX), FEW_OVER_WHITE, id="transparent palette"),
        pytest.param(_stored(FEW, "GIF", transparency=TRANSPARENT_INDEX), FEW_OVER_WHITE, id="transparent GIF"),
        pytest.param(_stored(RGBA, "PNG"), OVER_WHITE, id="alpha"),
        pytest.param(_stored(RGBA, "WEBP", lossless=True), OVER_WHITE, id="alpha WebP"),
        pytest.param(_stored(RGBA, "TIFF"), OVER_WHITE, id="alpha TIFF"),
        pytest.param(
            _stored(Image.fromarray(np.dstack([COLOURS, 0 * RAMP])), "PNG"), COLOURS, id="alpha that nobody filled"
        ),
        pytest.param(
            _stored(Image.fromarray(RAMP), "PNG", transparency=255),
            GREY3, id="transparent grey, which is white already",
        ),
        *(
            pytest.param(cv2.imencode(end, array.astype(np.uint16) * 257)[1].tobytes(), expected, id=name + end)
            for end in (".png", ".tif")
            for name, array, expected in (("16 bit", RAMP, GREY3), ("16 bit colour", COLOURS[..., ::-1], COLOURS))
        ),
        pytest.param(cv2.imencode(".png", RAMP.astype(np.uint16) * 16)[1].tobytes(), GREY3, id="12 bit in 16"),
        pytest.param(cv2.imencode(".tif", COLOURS[..., ::-1] / np.float32(255))[1].tobytes(), COLOURS, id="float TIFF"),
        pytest.param(
            _stored(Image.fromarray(RAMP / np.float32(255)), "TIFF", big_tiff=True), GREY3, id="float TIFF, large"
        ),
    ],
)  # fmt: skip
def test_other_kinds_of_images_become_rgb(tmp_path, data, expected):
    (tmp_path / "a.png").write_bytes(data)
    image = decode_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == (expected.shape, np.uint8)
    assert np.abs(image.astype(int) - expected).max() <= 4  # JPEG, and 12 bits
    np.testing.assert_array_equal(decode_bytes(data), image)


def test_numbers_that_are_no_brightness(tmp_path):
    for array, message in (
        (np.array([[0.0, 300]], np.float32), "float32 from 0 to 300: expected floats from 0 to 1"),
        (np.array([[np.nan]]), "float64 from nan"),
        (np.array([[-1.0]]), "from -1 to 0.*not normalized"),
        (np.array([[1]]), "int64: expected uint8, uint16"),
    ):
        with pytest.raises(ValueError, match=message):
            to_uint8(array)
    assert to_uint8(np.zeros((0, 3), np.uint16)).shape == (0, 3)
    big_endian = np.array([[0, 65535]], ">u2")
    assert to_uint8(big_endian).tolist() == [[0, 255]]
    cv2.imencode(".tif", np.full((2, 2), 1000, np.float32))[1].tofile(tmp_path / "hot.tif")
    with pytest.raises(ValueError, match=r"hot\.tif contains float32 from 0 to 1000"):
        decode_image(tmp_path / "hot.tif")


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
        with pytest.raises(ValueError, match=rf"{name} cannot be decoded"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"not found: .*none\.png"):
        read(tmp_path / "none.png")


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


def _gray_text(values, highest):
    rows = "\n".join(" ".join(map(str, row)) for row in values)
    return f"P2\n# by hand\n{values.shape[1]} {values.shape[0]}\n{highest}\n{rows}\n".encode()


def test_every_format_keeps_the_numbers_of_a_mask(tmp_path):
    """Decoders scale few levels to 0..255, and replace a palette's indices by its colors."""
    values = np.tile(np.array([[0, 1, 1, 0, 1]], np.uint8), (7, 3))
    bits = Image.fromarray(values > 0)
    colored = Image.fromarray(values + 1)
    colored.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0] + [5, 6, 7] * 253)
    numbers = np.arange(201, dtype=np.uint8).reshape(3, 67)
    grays = bytearray(_stored(bits, "BMP"))
    grays[54:62] = bytes([7, 7, 7, 0, 9, 9, 9, 0])
    cases = {
        "grays.bmp": (bytes(grays), 7 + 2 * values),
        **{f"bit.{end}": (_stored(bits, kind), values) for end, kind in BIT_FORMATS.items()},
        "fax.tif": (_stored(bits, "TIFF", compression="group4"), values),
        "bit.txt": (_gray_text(values, 1), values),
        "levels.pgm": (_gray_text(numbers, 200), numbers),
        **{f"palette.{end}": (_stored(colored, end.upper()), values + 1) for end in ("bmp", "tiff", "png")},
        "gray.bmp": (_stored(Image.fromarray(numbers), "BMP"), numbers),
        "white.bmp": (_stored(Image.fromarray(values * 255), "BMP"), values * 255),
        **{
            f"{np.dtype(kind).name}.tif": (cv2.imencode(".tif", numbers.astype(kind))[1].tobytes(), numbers)
            for kind in (np.float32, np.float64, np.int32, np.int16)
        },
    }
    for name, (data, expected) in cases.items():
        (tmp_path / name).write_bytes(data)
        found = decode_mask(tmp_path / name)
        assert found.dtype == np.uint8, name
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0, 1, np.nan], r"up to 1, 1 of them such as nan: .*write 255"),
        ([0, np.inf, 2], "such as inf"),
        ([0, 0.5, 1], "such as 0.5: expected class indices, whole numbers"),
        ([-9999, 0, 1], "up to 1, 1 of them such as -9999"),
    ],
)
def test_masks_of_other_numbers_are_refused(tmp_path, values, problem):
    _encode(tmp_path / "a.tif", np.array([values], np.float32), ".tif")
    with pytest.raises(ValueError, match=rf"a\.tif contains float32 values .*{problem}"):
        decode_mask(tmp_path / "a.tif")


def test_masks_that_hold_no_class_numbers(tmp_path):
    _encode(tmp_path / "colour.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    _encode(tmp_path / "instances.png", np.full((2, 2), 26001, np.uint16))
    with pytest.raises(ValueError, match=r"colour\.png has 3 color channels.*class indices"):
        decode_mask(tmp_path / "colour.png")
    with pytest.raises(ValueError, match=r"instances\.png contains uint16 values up to 26001"):
        decode_mask(tmp_path / "instances.png")


def test_instance_ids(tmp_path):
    for dtype in (np.uint16, np.uint8):
        ids = np.array([[7, 33], [26, 200]], dtype) if dtype == np.uint8 else np.array([[7, 26001, 33999]], dtype)
        _encode(tmp_path / "ids.png", ids)
        found = decode_instances(tmp_path / "ids.png")
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, ids)
    _encode(tmp_path / "colour.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"colour\.png contains uint8 \[2, 2, 3\]: expected instance ids"):
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
    with pytest.raises(ValueError, match=r"a\.jpg decodes to 4x3.*b\.json says 4x9\. Remedy: correct"):
        check_size((3, 4), (9, 4), path="a.jpg", source="b.json")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_its_header_says(tmp_path, orientation, mode):
    exif = Image.Exif()
    exif[274] = orientation
    drawn = np.zeros((40, 64, 4), np.uint8)
    drawn[:20, :20], drawn[20:, 40:, 1], drawn[..., 3] = (250, 10, 10, 255), 200, 255
    drawn[..., 3] -= 255 * (np.arange(64) > 55).astype(np.uint8) * (mode == "RGBA")
    picture = Image.fromarray(drawn).convert(mode)
    picture.save(tmp_path / "x.avif", exif=exif, quality=100, subsampling="4:4:4")
    over = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")
    over.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(over)).astype(int)
    found = decode_image(tmp_path / "x.avif")
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4
    assert image_size(tmp_path / "x.avif") == expected.shape[:2]


def test_heic_without_its_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"x\.heic is a HEIC picture.*pocketvision\[heic\]"):
        decode_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", name="x.heic")


def test_of_a_gif_the_first_frame(tmp_path):
    first, second = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert (decode_image(tmp_path / "x.gif") == (255, 0, 0)).all()
