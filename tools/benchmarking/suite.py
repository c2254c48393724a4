"""Every ratio that the README tells, on lively random weights: no data is needed."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ..config import build
from ..exporting.metadata import describe_file, write_files
from ..exporting.onnx_file import network_proto
from ..predicting.interface import FORMATS, make_interface
from ..predicting.runtimes import PACKAGES, require
from ..runs.keys import portable
from ..runs.loaded import LoadedRun
from ..system.console import log
from .subject import Setup, Subject
from .variant import Spec

SUITES = ("peers", "loading")
# title, keys that make the subject, batch sizes of inference, keys of training beside them
_SSDLITE = ("SSDLite 320", ("model=ssdlite_torchvision", "photo_size=[480,640]"), ("batch_size=16",))
_LRASPP = (
    "LR-ASPP",
    ("model=lraspp_torchvision", "data.resize=none", "data.eval_size=null", "photo_size=[512,1024]"),
    ("batch_size=4", "data.input_size=[480,480]"),
)
_BATCHES = (1, 8)
_KEPT = ("threads", "rounds", "repeats", "warmup", "memory", "device")  # of the command, in every case


@dataclass(frozen=True)
class Entry:
    """One case to come: its title and what it takes."""

    title: str
    setup: Setup


def entries(config: DictConfig, threads: int, folder: Path) -> Iterator[Entry]:
    """The cases of `suite=peers`; files are exported into `folder` as they are needed."""
    for name, keys, training in (_SSDLITE, _LRASPP):
        base = Setup(_composed(config, *keys), threads)
        files = export_files(Subject(base), folder, name)
        size = "x".join(map(str, base.config.photo_size))
        for batch in _BATCHES:
            setup = replace(_of_batch(base, batch), specs=_specs(files))
            yield Entry(f"{name}, {size} photograph, batch {batch}", setup)
        learning = Setup(_composed(config, *keys, *training, "training=true", "warmup=1", "repeats=1"), threads)
        title = f"{name}, training step, batch {learning.config.batch_size} at {_side(learning.config.data.input_size)}"
        yield Entry(title, replace(learning, specs=(Spec("torchvision"), Spec("pocketvision"))))
    for number, run in enumerate(config.runs):
        yield from _of_run(config, str(run), threads, folder, number)


def _of_run(config: DictConfig, run: str, threads: int, folder: Path, number: int) -> Iterator[Entry]:
    """A trained run at both batch sizes, on its own photographs where there are some."""
    from ..predicting.inputs import find_images

    photos = tuple(map(str, find_images([config.photos]))) if config.photos else ()
    keys = (f"photo_size=[{','.join(map(str, config.photo_size))}]",)
    plain = _composed(config, *keys)
    plain.run = run
    base = Setup(plain, threads, photos)
    files = export_files(Subject(base), folder, f"run {number}")
    for batch in _BATCHES:
        setup = replace(_of_batch(base, batch), specs=_specs(files))
        yield Entry(f"{run}, batch {batch}", setup)


def _of_batch(base: Setup, batch: int) -> Setup:
    """Many photographs at a time are timed less often: else the suite would spend most of its time there."""
    return base if batch == 1 else base.with_keys(batch_size=batch, warmup=1, repeats=1)


def _composed(config: DictConfig, *keys: str) -> DictConfig:
    composed = build.compose(*keys, config_name="benchmark")
    for key in _KEPT:
        if f"{key}=" not in " ".join(keys):
            composed[key] = config[key]
    return composed


def _side(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _specs(files: dict[str, Path]) -> tuple[Spec, ...]:
    ours = [Spec("pocketvision"), Spec("pocketvision", True)]
    if compiler():
        ours.append(Spec("pocketvision", True, compile=True, measure_memory=False))  # would measure the compiler
    ours.append(Spec("pocketvision", True, precision="bf16"))
    theirs = [Spec("file", file=str(path)) for path in files.values()]
    if "openvino" in files:
        theirs.append(Spec("file", precision="bf16", file=str(files["openvino"])))
    return (Spec("torchvision"), *ours, *theirs)


def compiler() -> str | None:
    """A C++ compiler, which torch.compile needs on the CPU."""
    if torch.cuda.is_available():
        return "triton"
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", *(["cl"] if sys.platform == "win32" else [])]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def export_files(
    subject: Subject, folder: Path, name: str, *, formats: Sequence[str] = ("onnx", "openvino")
) -> dict[str, Path]:
    """Files by format, for single photographs; what cannot be is said."""
    run: LoadedRun = subject.run
    found: dict[str, Path] = {}
    if not compiler():
        log.info("without torch.compile: no C++ compiler here")
    photo = subject.photos[0].shape[:2]
    fixed = None if run.config.data.resize == "stretch" else photo
    for format in formats:
        try:
            require(PACKAGES[format], extra=format, need=f"the part of {format}")
            interface = make_interface(run, input="photo", input_size=fixed)
        except ValueError as error:
            log.info("without %s: %s", format, error)
            continue
        path = folder / name.replace(" ", "_") / f"model{FORMATS[format]}"
        path.parent.mkdir(exist_ok=True)
        config: Any = _config_of(subject)
        about = describe_file(run, interface, config=config, format=format, precision="fp32", source=name)
        write_files(run, network_proto(run, interface), interface, path, about)
        found[format] = path
    return found


def _config_of(subject: Subject) -> Any:
    if subject.config.run:
        from ..engine.state import load_checkpoint

        return load_checkpoint(subject.run.path)["config"]
    return portable(subject.config)
