"""Checksums of exported files: whatever bit is flipped, and files that have none."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from pocketvision.tools.predicting.attached import METADATA, attach, read_attached
from pocketvision.tools.predicting.checksum import add_checksum, checksum_fault

CONTENT = bytes(range(256)) * 2


@pytest.fixture(params=[".onnx", ".xml", ".bin"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A file with a checksum, and which of its parts a test changes."""
    path = tmp_path / ("m.onnx" if request.param == ".onnx" else "m.xml")
    path.write_bytes(CONTENT)
    (tmp_path / "m.bin").write_bytes(CONTENT[::-1])
    add_checksum(path)
    return path, path.with_suffix(request.param)


def test_every_flipped_bit_of_the_content_is_found(files: tuple[Path, Path]) -> None:
    path, part = files
    assert checksum_fault(path) is None
    whole = part.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(CONTENT), 40):
        content = bytearray(whole)
        content[place] ^= 1 << int(place) % 8
        part.write_bytes(content)
        assert "checksum is wrong" in str(checksum_fault(path))


def test_a_file_of_another_program_has_none(files: tuple[Path, Path]) -> None:
    path, _ = files
    whole = path.read_bytes()
    for content in (b"", CONTENT, whole + b"x", b"x" + whole, whole[:-40]):
        path.write_bytes(content)
        assert checksum_fault(path) is None


def test_an_onnx_file_stays_one(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    onnx.save(model, tmp_path / "m.onnx")
    add_checksum(tmp_path / "m.onnx")
    (entry,) = onnx.load(tmp_path / "m.onnx").metadata_props
    assert entry.key == "pocketvision_sha256"


def test_a_file_that_onnx_has_written_again_has_none(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path, graph = tmp_path / "m.onnx", onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), path)
    add_checksum(path)
    model = onnx.load(path)
    model.graph.name = "h"
    onnx.save(model, path)
    assert checksum_fault(path) is None


@pytest.fixture(params=[".tflite", ".pte"])
def with_texts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"m{request.param}"
    path.write_bytes(CONTENT)
    attach(path, {METADATA: "{}", "labels.txt": "dog"})
    return path


def test_a_flipped_bit_before_attached_texts_is_found(with_texts: Path) -> None:
    assert checksum_fault(with_texts) is None
    whole = with_texts.read_bytes()
    for place in range(len(CONTENT)):
        with_texts.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert "checksum is wrong" in str(checksum_fault(with_texts))
        assert read_attached(with_texts, METADATA) == "{}"


def test_a_flipped_bit_of_attached_texts_gives_no_other_text(with_texts: Path) -> None:
    whole = with_texts.read_bytes()
    for place in range(len(CONTENT), len(whole)):
        with_texts.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert checksum_fault(with_texts) or read_attached(with_texts, METADATA) in (None, "{}")


def test_more_texts_leave_the_checksum(with_texts: Path) -> None:
    attach(with_texts, {"more.txt": "cat"})
    assert checksum_fault(with_texts) is None
    assert [read_attached(with_texts, name) for name in ("labels.txt", "more.txt", "none")] == ["dog", "cat", None]


def test_files_without_our_checksum(with_texts: Path) -> None:
    for content in (b"", CONTENT, with_texts.read_bytes()[:-40]):
        with_texts.write_bytes(content)
        assert checksum_fault(with_texts) is None
        assert read_attached(with_texts, METADATA) is None
    with zipfile.ZipFile(with_texts, "w") as archive:
        archive.writestr("labels.txt", "dog")
    assert checksum_fault(with_texts) is None
