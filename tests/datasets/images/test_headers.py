"""Sizes are read from headers as decoders read them, and what would fill the memory is refused before it is decoded."""

import contextlib
import io
import struct
import time

import numpy as np
import pytest
from PIL import Image
from pocketvision.datasets.images.decode import decode_bytes, decode_image, decode_instances, decode_mask
from pocketvision.datasets.images.headers import check_bytes, check_picture, max_pixels, picture_size

SIZE = (30, 47)  # h, w
NOISE = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)


def _stored(kind, picture=None, **options):
    file = io.BytesIO()
    (picture or Image.fromarray(NOISE)).save(file, kind, **options)
    return file.getvalue()


def _exif():
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    return exif


FILES = {
    "jpeg": _stored("JPEG"),
    "progressive": _stored("JPEG", progressive=True),
    "long exif": _stored("JPEG", exif=_exif()),
    "fills": _stored("JPEG").replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1),
    "bytes between": _stored("JPEG").replace(b"\xff\xc0", b"abc\xff\xc0", 1),
    "png": _stored("PNG"),
    "bmp": _stored("BMP"),
    "tiff": _stored("TIFF"),
    "tiff, large": _stored("TIFF", big_tiff=True),
    "webp": _stored("WEBP"),
    "webp, lossless": _stored("WEBP", lossless=True),
    "webp, extended": _stored("WEBP", exif=_exif()),
    "gif": _stored("GIF"),
    "ppm": _stored("PPM"),
    "pgm": b"P2\n# a comment\n47 # another\n30\n255\n" + b"7 " * 30 * 47,
    "avif": _stored("AVIF"),
}


def _view(data):
    return np.frombuffer(data, np.uint8)


def _bomb(name):
    """The file, but with a header of 60,000 x 60,000 pixels (16,383 x 16,383 where the format has no more)."""
    data, side = bytearray(FILES[name]), 60_000
    if name in ("jpeg", "progressive", "long exif", "fills", "bytes between"):
        place = data.index(b"\xff\xc2" if name == "progressive" else b"\xff\xc0") + 5
        struct.pack_into(">HH", data, place, side, side)
    elif name == "png":
        struct.pack_into(">II", data, 16, side, side)
    elif name == "bmp":
        struct.pack_into("<ii", data, 18, side, -side)
    elif name.startswith("tiff"):
        for tag in (256, 257):
            big = "large" in name
            place = data.index(struct.pack("<HHQ" if big else "<HHI", tag, 4, 1))
            struct.pack_into("<I", data, place + (12 if big else 8), side)
    elif name == "webp":
        struct.pack_into("<HH", data, 26, 16383, 16383)
    elif name == "webp, lossless":
        struct.pack_into("<I", data, 21, 0x0FFFFFFF)
    elif name == "webp, extended":
        data[24:30] = b"\xff\xff\x00" * 2
    elif name == "gif":
        struct.pack_into("<HH", data, 6, side, side)
    else:
        return bytes(data).replace(b"47", b"60000", 1).replace(b"30", b"60000", 1)
    return bytes(data)


NO_SIZES = (b"", b"\xff", b"\xff\xd8", b"P6 ", b"BM", b"GIF89a", b"II*\0", b"II*\0\xff\xff\xff\xff", b"text",
            b"II+\0" + b"\xff" * 20, b"RIFF0000WEBPVP8 ", b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0\0\0" * 9)  # fmt: skip


@pytest.mark.parametrize("data", NO_SIZES)
def test_no_size(data):
    assert picture_size(_view(data)) is None
    with pytest.raises(ValueError, match=r"a\.jpg cannot be decoded"):
        check_picture(_view(data), "a.jpg")


@pytest.mark.parametrize("name", FILES)
def test_sizes(name):
    assert picture_size(_view(FILES[name])) == SIZE
    assert decode_bytes(FILES[name]).shape == (*SIZE, 3)
    for end in range(0, 60, 7):  # a header that is cut is no error of ours
        picture_size(_view(FILES[name][:end]))


@pytest.mark.parametrize("read", [decode_image, decode_mask, decode_instances])
@pytest.mark.parametrize("name", [name for name in FILES if name != "avif"])
def test_bombs(tmp_path, name, read):
    (tmp_path / "bomb.png").write_bytes(_bomb(name))
    start = time.perf_counter()
    with pytest.raises(
        ValueError, match=r"bomb\.png declares \d+x\d+ .*limit of 179 million.*POCKETVISION_MAX_PIXELS="
    ):
        read(tmp_path / "bomb.png")
    assert time.perf_counter() - start < 1


def test_a_user_moves_the_limit(monkeypatch):
    monkeypatch.setenv("POCKETVISION_MAX_PIXELS", str(SIZE[0] * SIZE[1] - 1))
    with pytest.raises(ValueError, match=r"the data declares 47x30 pixels.*POCKETVISION_MAX_PIXELS=1410"):
        decode_bytes(FILES["png"])
    with pytest.raises(ValueError, match=r"a\.jpg has 99,999 bytes.*raise POCKETVISION_MAX_PIXELS"):
        check_bytes(99_999, "a.jpg")
    monkeypatch.setenv("POCKETVISION_MAX_PIXELS", "1410")
    assert decode_bytes(FILES["png"]).shape == (*SIZE, 3)
    for wrong in ("many", "-3", "0", ""):
        monkeypatch.setenv("POCKETVISION_MAX_PIXELS", wrong)
        with pytest.raises(ValueError, match=f"POCKETVISION_MAX_PIXELS={wrong}: expected"):
            max_pixels()


def test_pil_obeys_our_limit(monkeypatch):
    """Transparent pictures go through it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    picture = Image.fromarray(np.dstack([NOISE, NOISE[..., 0]]))
    assert decode_bytes(_stored("PNG", picture)).shape == (*SIZE, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_progressive_jpegs_of_many_scans():
    whole = FILES["progressive"]
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    many = whole[:-2] + scan * 60 + b"\xff\xd9"
    check_picture(_view(many), "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is a JPEG with 1\d\d scans.*limit of 100"):
        check_picture(_view(whole[:-2] + scan * 120 + b"\xff\xd9"), "a.jpg")
    check_picture(_view(many + scan * 120), "a film behind the picture.jpg")
    hidden = b"\xff\xfe\x00\x04\xff\xd9"  # an end of the picture inside of a comment is none
    with pytest.raises(ValueError, match="scans"):
        check_picture(_view(whole[:-2] + hidden + scan * 120 + b"\xff\xd9"), "a.jpg")


def test_inflated_chunks_are_refused_or_passed_over():
    """A PNG's texts and colour profile can unpack to a thousand times their size."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for i in range(20):
        info.add_text(f"key {i}", "x" * 30_000_000 if i == 0 else "x", zip=True)
    picture = Image.fromarray(np.dstack([NOISE, NOISE[..., 0]]))
    profile = b"\0" * 30_000_000
    for data in (_stored("PNG", picture, pnginfo=info), _stored("PNG", picture, icc_profile=profile)):
        assert len(data) < 100_000
        start = time.perf_counter()
        with contextlib.suppress(ValueError):
            assert decode_bytes(data).shape == (*SIZE, 3)
        assert time.perf_counter() - start < 1
