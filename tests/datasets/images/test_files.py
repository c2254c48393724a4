"""The size of a picture by its header is that of the decoded picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pocketvision.datasets.checking.modes import mode_of
from pocketvision.datasets.images import files
from pocketvision.datasets.images.decode import decode_image
from pocketvision.datasets.images.files import IMAGE_ENDINGS, find_files, image_size, list_files

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [*((kind, "RGB") for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")),
     *((kind, "RGBA") for kind in ("PNG", "WEBP", "TIFF"))],
)  # fmt: skip
def test_sizes_are_those_of_the_decoder(tmp_path: Path, kind: str, mode: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    turns = kind not in ("BMP", "GIF")
    Image.new(mode, (40, 30), (9, 9, 9, 99)[: len(mode)]).save(
        tmp_path / "x", kind, **({"exif": exif} if turns else {})
    )
    expected = (40, 30) if orientation in (6, 8) and turns else (30, 40)
    assert image_size(tmp_path / "x") == decode_image(tmp_path / "x").shape[:2] == expected


def test_xmp_turns_nothing_as_the_decoder_does_not_read_it(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "x.jpg", xmp=XMP)
    assert image_size(tmp_path / "x.jpg") == decode_image(tmp_path / "x.jpg").shape[:2] == (30, 40)
    assert mode_of((tmp_path / "x.jpg").read_bytes()).orientation == 1


def test_a_jpeg_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(file, "JPEG")
    (tmp_path / "x.jpg").write_bytes(file.getvalue()[:2000])  # all but the pixels
    monkeypatch.setattr(files, "decode_image", None)
    assert image_size(tmp_path / "x.jpg") == (300, 400)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"\xff\xd8\xff", "cannot be decoded"), (b"text", "not a picture")]
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        image_size(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"y\.jpg"):
        image_size(tmp_path / "y.jpg")


def test_listing(tmp_path: Path) -> None:
    assert list_files(tmp_path, frozenset({".jpg"})) == []
    for name in ("b.JPG", "a.jpg", "sub/ü x.jpg", ".hidden.jpg", ".git/x.jpg", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_files(tmp_path, frozenset({".jpg"})) == ["a.jpg", "b.JPG", "sub/ü x.jpg"]


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_what_a_search_leaves_out_is_counted_and_named(tmp_path: Path) -> None:
    _touch(
        tmp_path, "a.jfif", "b.JPE", "c.gif", "d.AVIF", "e.heic", "notes.txt", "f.raw", "g.docx", "._a.jpg", ".x.png"
    )
    _touch(tmp_path, ".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg", "Thumbs.db", ".DS_Store", "down/.tmp.jpg")
    found = find_files(tmp_path, IMAGE_ENDINGS)
    assert found.names == ["a.jfif", "b.JPE", "c.gif", "d.AVIF", "e.heic"]
    assert found.note == (
        f"left out below {tmp_path}: 2 files with other extensions (f.raw, g.docx); "
        "3 hidden files (._a.jpg, .x.png, down/.tmp.jpg); 2 hidden folders (.ipynb_checkpoints, __MACOSX)"
    )
    assert find_files(tmp_path / "down", frozenset({".txt"})).note == ""


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    _touch(tmp_path, "data/images/a.jpg", "data/images/real/b.jpg", "disk/c.jpg", "disk/more/d.jpg", "data/other.jpg")
    images = tmp_path / "data" / "images"
    disk = tmp_path / "disk"
    links = {"day1": disk, "again": disk / "more", "disk2": disk, "up": images.parent, "same": images / "real",
             "self": images / "self", "gone": tmp_path / "nothing"}  # fmt: skip
    for name, target in links.items():
        (images / name).symlink_to(target)
    (tmp_path / "disk" / "back").symlink_to(images)
    (images / "e.jpg").symlink_to(tmp_path / "nothing.jpg")  # its reader reports it
    found = find_files(images, IMAGE_ENDINGS)
    assert found.names == ["a.jpg", "again/d.jpg", "day1/c.jpg", "e.jpg", "real/b.jpg"]
    assert "5 folders that are read under another name (day1/back, day1/more, disk2, ...)" in found.note
    assert list_files(images, IMAGE_ENDINGS, deep=False) == ["a.jpg", "e.jpg"]
