"""Exported files, opened and ready to run in their own runtimes, with one line for every fault."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..system.packages import require
from .adapters import OPENERS, Call, ThreadsError
from .checksum import checksum_fault
from .formats import ENDINGS, FORMATS
from .program import ForeignProgramError, check_torch

_PLACE = re.compile(r"Exception from |Check '.*' failed at ")


@dataclass(frozen=True)
class ExportedFile:
    """A file ready to run. `run` takes an array of the input's shape and dtype and returns every output by name."""

    path: Path
    about: dict[str, Any]  # the file's metadata
    run: Call


def open_file(path: str | Path, *, threads: int = 0, precision: str | None = None) -> ExportedFile:
    """Open a file that `pocketvision export` wrote.

    Args:
        threads: of the runtime; 0 for its default.
        precision: of OpenVINO's computation, fp32 or bf16; None for the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its runtime is not installed, it is corrupt, or it was not written by `pocketvision export`.
    """
    path = Path(path)
    format = next((name for name, format in FORMATS.items() if path.suffix.lower() == format.ending), "")
    if not format:
        raise ValueError(f"{path} is not an exported file: expected the extension {', '.join(ENDINGS)}")
    if system := FORMATS[format].system:
        raise ValueError(
            f"only {system} can run {path}. To compare it with its run there: "
            f"python docs/examples/{format}_compare.py {path} RUN PHOTOS"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    require(FORMATS[format].runtime, installs=FORMATS[format].installs, need=f"file={path}")
    if format == "torch_export":
        check_torch(f"file={path}", instead="export the run with format=onnx")
    if fault := checksum_fault(path):
        raise ValueError(f"{path} {fault}. Copy it again, or export the run again")
    try:
        text, start = OPENERS[format](path)
    except ForeignProgramError as error:
        raise ValueError(f"{path} {error}: export the run again with pocketvision export format={format}") from error
    except Exception as error:  # every runtime raises its own errors for truncated or other files
        raise ValueError(f"{path} cannot be opened ({_told(error)}): corrupt, or not an exported file?") from error
    try:
        about = json.loads(text or "")
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or not {"task", "config", "precision", "interface", "labels"} <= about.keys():
        raise ValueError(f"{path} was not written by pocketvision export: it has no metadata")
    return ExportedFile(path, about, _guarded(path, start, threads, precision or about["precision"]))


def _told(error: Exception) -> str:
    """What a runtime says in one line: the first one; OpenVINO begins with places in its code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if not _PLACE.match(line)), (lines or [""])[0])
    return f"{type(error).__name__}: {found.strip()[:200]}"


def _guarded(path: Path, start: Callable[[int, str], Call], threads: int, precision: str) -> Call:
    """The call of a runtime; its own errors for a file that loads but does not run become a ValueError."""

    def told(error: Exception) -> ValueError:
        return ValueError(f"{path} does not run ({_told(error)}): corrupt?")

    try:
        call = start(threads, precision)
    except ThreadsError:
        raise
    except Exception as error:
        raise told(error) from error

    def guarded(array: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return call(array)
        except Exception as error:
            raise told(error) from error

    return guarded
