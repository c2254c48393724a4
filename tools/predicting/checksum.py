"""The checksum at the end of an exported file, without which a flipped bit would only give other results."""

import hashlib
import re
from pathlib import Path

from .attached import content_is_whole

KEY = b"pocketvision_sha256"
# An ONNX file may end with any field of the model: this one is an entry of its metadata (protobuf's tags and lengths).
# Its length, 100, has a needless zero byte, which is gone as soon as another program has written the file again.
_ONNX = (b"\x72\xe4\x00\x0a\x13" + KEY + b"\x12\x4d", b"")
_XML = (b"\n<!-- " + KEY + b" ", b" -->\n")
_MARKS = {".onnx": _ONNX, ".xml": _XML}
_ATTACHED = (".tflite", ".pte")  # a checksum is among their texts
_FAULT = "is damaged: {} is not as it was exported (its checksum is wrong)"
_VALUE = 77  # bytes: the size in twelve digits, a space, and the SHA-256


def add_checksum(path: Path) -> None:
    """Append the checksum of everything that is in an ONNX or an OpenVINO file, and in the .bin beside it.

    A torch.export file needs none: it is a zip, which has checksums.
    """
    before, after = _MARKS[path.suffix]
    content = path.read_bytes()
    path.write_bytes(content + before + _value(path, content) + after)


def checksum_fault(path: Path) -> str | None:
    """What is wrong if a file's content is not what it was when it was written.

    None for a file without a checksum, and for one that another program has written again.
    """
    if path.suffix not in _MARKS:
        return _FAULT.format("it") if path.suffix in _ATTACHED and content_is_whole(path) is False else None
    before, after = _MARKS[path.suffix]
    content = path.read_bytes()
    end = len(content) - len(before) - _VALUE - len(after)
    found = re.fullmatch(re.escape(before) + rb"(\d{12} [0-9a-f]{64})" + re.escape(after), content[max(0, end) :])
    if found is None or int(found[1][:12]) != end or found[1] == _value(path, memoryview(content)[:end]):
        return None
    files = f"it or {path.with_suffix('.bin').name}" if path.suffix == ".xml" else "it"
    return _FAULT.format(files)


def _value(path: Path, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(content)
    if path.suffix == ".xml" and (weights := path.with_suffix(".bin")).is_file():
        with open(weights, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return f"{len(content):012d} {digest.hexdigest()}".encode()
