"""Texts attached to a file behind its content, as a zip: a convention of LiteRT, and ExecuTorch ignores them."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

METADATA = "pocketvision.json"
CHECKSUM = "pocketvision.sha256"
_MOST = 1 << 26  # bytes that are read


def attach(path: Path, texts: Mapping[str, str], *, compress: bool = True) -> None:
    """Append texts by name, and the SHA-256 of the content before them; `unzip -p FILE NAME` prints one.

    MediaPipe refuses a file in which one is compressed.
    """
    checksum = {} if zipfile.is_zipfile(path) else {CHECKSUM: digest(path, path.stat().st_size)}
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in {**texts, **checksum}.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)


def digest(path: Path, size: int) -> str:
    """The SHA-256 of a file's first `size` bytes."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (piece := file.read(min(size, 1 << 20))):
            found.update(piece)
            size -= len(piece)
    return found.hexdigest()


def content_is_whole(path: Path) -> bool | None:
    """Whether the content before the texts is as it was when they were attached; None without a checksum."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive, archive.open(CHECKSUM) as entry:
                size = min(entry.header_offset for entry in archive.infolist())
                return entry.read(64).decode() == digest(path, size)
        except KeyError:
            return None
        except Exception:  # zipfile raises whatever a damaged header leads to
            return False if zipfile.is_zipfile(file) else None


def read_attached(path: Path, name: str) -> str | None:
    """An attached text; None if there is none, or a damaged one."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive, archive.open(name) as entry:
                return entry.read(_MOST).decode()
        except Exception:  # zipfile raises whatever a damaged header leads to
            return None
