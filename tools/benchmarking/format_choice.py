"""Which files of a run `formats=` asks for, and which of them can be had here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...conf.schema import BenchmarkConfig
from ...words import counted
from ..engine.state import load_checkpoint
from ..exporting.calibration import read_split
from ..exporting.files import OtherRunError, Target, check_run, make_target, write_files
from ..predicting.adapters import OPENERS
from ..predicting.formats import FORMATS
from ..runs.loaded import LoadedRun
from ..system.console import log

MEASURED = tuple(name for name in FORMATS if name in OPENERS)  # nothing runs the files of others


def check_formats(settings: BenchmarkConfig) -> None:
    """Raise ValueError for an unknown format or precision, and for keys that exclude `formats`."""
    if settings.formats is None:
        if settings.raw:
            raise ValueError("raw=true measures the networks of exported files: set formats=all, too")
        return
    chosen(settings.formats)
    refused = {
        "training=true: exported files cannot be trained": settings.training,
        f"file={settings.file}: formats= writes files of its own": settings.file,
        f"peer={settings.peer}: formats= compares files with PyTorch": settings.peer,
        f"device={settings.device}: exported files run on the CPU": settings.device not in ("auto", "cpu"),
        f"batch_size={settings.batch_size}: formats= measures single photographs": settings.batch_size != 1,
    }
    if wrong := [text for text, asked in refused.items() if asked]:
        raise ValueError(f"{wrong[0]}; drop it, or formats=")
    if not settings.run:
        raise ValueError(f"formats={settings.formats} exports a training run: set run=FOLDER")


def chosen(formats: Any) -> list[tuple[str, str]]:
    """Formats and precisions: of `all`, or of names such as `onnx` (all its precisions) and `onnx:int8`.

    Raises:
        ValueError: a name is unknown; shows the choices.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    choices = f"expected all, or some of {', '.join(MEASURED)}, also in one precision, as onnx:int8"
    pairs = []
    for name in [*MEASURED] if "all" in names else names:
        format, _, precision = str(name).partition(":")
        if format not in MEASURED:
            raise ValueError(f"formats={name}: {choices}")
        precisions = FORMATS[format].precisions
        if precision and precision not in precisions:
            raise ValueError(f"formats={name}: {format} has the precisions {', '.join(precisions)}")
        pairs += [(format, one) for one in ([precision] if precision else precisions)]
    if not pairs:
        raise ValueError(f"formats={formats}: {choices}")
    return list(dict.fromkeys(pairs))


def ready_files(
    run: LoadedRun, settings: BenchmarkConfig, folder: Path, size: tuple[int, int] | None
) -> list[Sequence[Target]]:
    """All files that can be measured here, each with raw=true before that of its network; lacking ones are written.

    Args:
        size: as for `make_target`.

    Raises:
        ValueError: one that was asked for by name cannot be had. With `all`, the log says which are left out.
        OtherRunError: the folder has a file of another run.
    """
    found: list[Sequence[Target]] = []
    lacking: list[Target] = []
    left_out: list[str] = []
    for pair in chosen(settings.formats):
        try:
            check_run(run, *pair)
            targets = _targets(run, settings, folder, pair, size)
            absent = [target for target in targets if not target.is_there()]
            if pair[1] == "int8" and absent and not run.quantized:
                read_split(run, "train", f"export {absent[0].path} with calibration=FOLDER")
        except OtherRunError:
            raise
        except ValueError as error:
            if "all" not in settings.formats:
                raise
            left_out.append(str(error))
            continue
        found.append(targets)
        lacking += absent
    if left_out:
        log.info("left out: %s", "; ".join(dict.fromkeys(left_out)))
    if kept := sum(map(len, found)) - len(lacking):
        log.info("%s of %s", counted(kept, "file"), folder)
    write_files(run, lacking)
    return found


def _targets(
    run: LoadedRun, settings: BenchmarkConfig, folder: Path, pair: tuple[str, str], size: tuple[int, int] | None
) -> Sequence[Target]:
    """The file of a pair and, with raw=true, that of its network."""
    config, source = load_checkpoint(run.path)["config"], str(settings.run)
    parts = (False, True) if settings.raw else (False,)
    return [make_target(run, folder, *pair, size=size, raw=raw, config=config, source=source) for raw in parts]
