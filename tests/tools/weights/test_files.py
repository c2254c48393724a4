"""Files of weights: safetensors read without pickles, hashes in names, and hostile files."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from pocketvision.tools.weights.files import check_hash, read_content, state_of
from safetensors.torch import save

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scalar": torch.tensor(7, dtype=torch.int64),
    "none": torch.zeros(0, 3),
}
SOUND = save(TENSORS, metadata={"format": "pt"})
LENGTH = 8 + int.from_bytes(SOUND[:8], "little")
HEADER, NUMBERS = json.loads(SOUND[8:LENGTH]), SOUND[LENGTH:]


def encoded(header: object, data: bytes = NUMBERS) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "expected"), [(encoded({}, b""), {}), (SOUND, TENSORS), (encoded(HEADER), TENSORS)]
)
def test_what_was_written_is_read(content: bytes, expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    found = read_content(tmp_path / "x.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def changed(name: str, **changes: object) -> dict[str, dict]:
    return HEADER | {name: HEADER[name] | changes}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2) + b"{",
        SOUND[:-1],
        SOUND + b"x",
        *(
            encoded(header)
            for header in (
                b"",
                b"[]",
                b"{",
                b"[" * 100_000,
                json.dumps(HEADER).encode() + b" " * 2**24,
                {"a": 1},
                {"a": {}},
                changed("a", dtype="F8_E4M3"),
                changed("a", dtype="object"),
                changed("a", shape=[2, 4]),
                changed("a", shape=[10**30, 10**30]),
                changed("none", shape=[0, 2**62, 2**62]),
                changed("a", shape=[-2, -3]),
                changed("a", shape=[2.0, 3.0]),
                changed("a", shape=[True, 6]),
                changed("a", shape=[1] * 3000 + [2, 3]),
                changed("a", data_offsets=[4, 28]),
                changed("a", data_offsets=[24, 0]),
                changed("a", data_offsets=[0, 2**62]),
                changed("a", data_offsets=[0]),
                changed("half", data_offsets=[0, 4]),  # the same bytes twice
            )
        ),
    ],
    ids=range(27),
)
def test_hostile_and_truncated_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is not a valid safetensors file"):
        read_content(tmp_path / "x.safetensors")


def test_a_name_that_tells_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    check_hash(path)
    check_hash(tmp_path / "nothing-0123456789.pth")
    told = hashlib.sha256(b"weights").hexdigest()[:8]
    check_hash(path.rename(tmp_path / f"net-{told}.pth"))
    wrong = (tmp_path / f"net-{told}.pth").rename(tmp_path / "net-01234567.pth")
    with pytest.raises(ValueError, match=f"starts with 01234567, but it is {told}"):
        check_hash(wrong)


def test_a_file_that_would_unpack_to_more_than_it_has(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"bomb\.pth is not a readable state dict: it is compressed"):
        read_content(tmp_path / "bomb.pth")


def test_other_objects_than_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="Python objects other than tensors, which are never loaded"):
        read_content(tmp_path / "x.pth")


def test_what_others_wrap_around_a_state_dict() -> None:
    for content in (
        TENSORS,
        {"model": TENSORS, "epoch": 3},
        {"state_dict": TENSORS},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    ):
        assert state_of(content).keys() == TENSORS.keys()
    assert "module.a" in state_of({"module.a": torch.zeros(1), "b": torch.zeros(1)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "contain no tensors"),
        ({"model": {}}, "contain no tensors"),
        ({"a": 1}, "contain no tensors"),
        ({1: torch.zeros(1)}, "a tensor named 1"),
        ({"a\x1b[31m": torch.zeros(1)}, "a tensor named 'a"),
        ({"a" * 201: torch.zeros(1)}, "a tensor named 'aaa"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a is sparse, quantized"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a is sparse, quantized, complex"),
        ({"a": torch.empty(2, device="meta")}, "a is .* without values"),
    ],
)
def test_what_is_no_state_dict(content: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        state_of(content)
