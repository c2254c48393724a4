"""A run's files in many formats and precisions in one folder, written where they are lacking."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...conf.schema import ExportConfig
from ...files import whole_folder
from ..predicting.formats import FORMATS
from ..predicting.interface import Interface, make_interface
from ..predicting.program import check_torch
from ..predicting.runtimes import open_file
from ..runs.loaded import LoadedRun
from ..system.console import log
from ..system.packages import extra, require
from .int8 import Int8
from .metadata import describe_file
from .writers import Writer, make_writer

_IDENTITY = ("weights_sha256", "format", "precision", "interface", "postprocess")  # of a file


def check_installed(format: str, precision: str) -> None:
    """Raise ValueError if a package that writes this format in this precision is missing."""
    if format == "torch_export":
        check_torch("format=torch_export", instead="use format=onnx")
    require(FORMATS[format].writing, installs=extra(format), need=f"format={format}")
    if precision == "int8":
        require(FORMATS[format].quantizing, installs=extra("int8"), need=f"format={format} precision=int8")


def check_run(run: LoadedRun, format: str, precision: str) -> None:
    """Raise ValueError if a run was trained in eight bits, and this is not how its network can be written."""
    if not run.quantized:
        return
    formats = [name for name, one in FORMATS.items() if one.trained_int8]
    if format not in formats or precision != "int8":
        raise ValueError(
            f"{run.folder} was trained in eight bits (quantize=): expected precision=int8 and format="
            f"{' or format='.join(formats)}"
        )
    check_torch("the export of a training in eight bits", instead="evaluate the run itself")


class OtherRunError(ValueError):
    """A file is of another run, and cannot be written again here."""


@dataclass(frozen=True)
class Target:
    """A file that a run is to have: its place, and its metadata."""

    interface: Interface
    path: Path
    about: dict[str, Any]

    @property
    def format(self) -> str:
        return self.about["format"]

    @property
    def precision(self) -> str:
        return self.about["precision"]

    @property
    def name(self) -> str:
        return f"{self.format} {self.precision}"

    def is_there(self) -> bool:
        """Whether its place has it already: the same weights, written the same way. If not, it can be written here.

        A file whose format cannot be written here counts, too, if its runtime is installed: it comes from another
        environment.

        Raises:
            ValueError: a package is missing to write it, or to run it.
            OtherRunError: its place has a file of other weights, and a package is missing to write it again.
        """
        lacking = _told(check_installed, self.format, self.precision)
        if not self.path.is_file():
            if lacking:
                raise lacking
            return False
        try:
            about = open_file(self.path, threads=torch.get_num_threads()).about
        except ValueError:
            if lacking:
                raise
            return False  # damaged
        if all(about.get(key) == self.about[key] for key in _IDENTITY):
            return True
        if lacking:
            raise OtherRunError(
                f"{self.path} is of another run or of earlier weights, and cannot be written here: remove it, or "
                "choose another output="
            )
        return False

    def sizes(self) -> dict[str, int]:
        """Bytes by file extension; OpenVINO's numbers are in a file of their own, .bin."""
        files = [self.path, *([self.path.with_suffix(".bin")] if self.path.suffix == ".xml" else [])]
        return {file.suffix: file.stat().st_size for file in files}


def _told(check: Callable[..., None], *arguments: str) -> ValueError | None:
    """The error that a check raises."""
    try:
        check(*arguments)
    except ValueError as error:
        return error
    return None


def make_target(
    run: LoadedRun,
    folder: Path,
    format: str,
    precision: str,
    *,
    size: tuple[int, int] | None,
    raw: bool = False,
    config: Mapping[str, Any],
    source: str,
) -> Target:
    """FORMAT-PRECISION.ENDING in `folder`, for single photographs.

    Args:
        size: (h, w) of all photographs if the run does not resize them; None if they differ.
        raw: FORMAT-PRECISION-network.ENDING: the network without the resize and the post-processing.
        config, source: as for `describe_file`.

    Raises:
        ValueError: the format needs photographs of one size.
    """
    data = run.config.data
    if not (data.eval_size or size) and (FORMATS[format].portable or format == "torch_export"):
        raise ValueError(f"format={format} needs photographs of one size, and those of this run differ")
    alone = (raw and (data.eval_size or size)) or data.resize not in ("stretch", "none")
    interface = make_interface(
        run, format=format, input="network" if alone else None, outputs="raw" if raw else "final", input_size=size
    )
    about = describe_file(run, interface, config=config, format=format, precision=precision, source=source)
    name = f"{format}-{precision}{'-network' if raw else ''}{FORMATS[format].ending}"
    return Target(interface, folder / name, about)


def write_files(run: LoadedRun, targets: Sequence[Target]) -> None:
    """Write files; every network is traced, and quantized, only once."""
    writers: dict[Any, Writer] = {}
    for number, target in enumerate(targets, start=1):
        log.info("writing %s (%d of %d)", target.path, number, len(targets))
        key = target.format, target.interface.network_size, target.interface.batch
        writer = writers[key] = writers.get(key) or make_writer(target.format, run, target.interface)
        if target.precision == "int8":
            writer = writers[*key, "int8"] = writers.get((*key, "int8")) or _quantized(run, writer, target)
        target.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.path.parent, prefix=f".{target.path.stem}-") as folder:
            move(writer.write(target.interface, Path(folder, target.path.name), target.about), target.path)


def move(files: Sequence[Path], output: Path) -> None:
    """Give the files that a writer wrote, or its folder, the name `output`, each with its own extension."""
    for file in files[::-1]:  # the one that is looked for comes last
        if file.is_dir():
            with whole_folder(output) as folder:
                shutil.copytree(file, folder, dirs_exist_ok=True)
        else:
            os.replace(file, output.with_suffix(file.suffix))


def _quantized(run: LoadedRun, writer: Writer, target: Target) -> Writer:
    settings = ExportConfig(format=target.format, precision="int8", max_drop=None)
    return Int8(run, target.interface, settings).quantized(writer)
