"""Checks a zip before anything in it is used."""

import os
import zipfile
from pathlib import Path
from typing import IO


def zip_fault(file: Path | IO[bytes]) -> str | None:
    """What is wrong with a zip whose members must be stored as they are; None for a sound one, and for other files.

    torch does not compare checksums, so that a flipped bit would become another weight.
    """
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size = file.stat().st_size if isinstance(file, Path) else file.seek(0, os.SEEK_END)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return "it is compressed, unlike what torch writes, and could exhaust memory"
        if sum(entry.file_size for entry in entries) > size or len({entry.filename for entry in entries}) < len(
            entries
        ):
            return "its members overlap"
        damaged = archive.testzip()
    return f"the checksum of {damaged} is wrong" if damaged else None
