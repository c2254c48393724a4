"""Texts attached to a file behind its content, as a zip: a convention of LiteRT, and ExecuTorch ignores them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

METADATA = "pocketvision.json"
_MOST = 1 << 26  # bytes that are read


def attach(path: Path, texts: Mapping[str, str]) -> None:
    """Append texts by name; `unzip -p FILE NAME` prints one."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)


def read_attached(path: Path, name: str) -> str | None:
    """An attached text; None if there is none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return file.read(_MOST).decode()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return None
