"""Every ratio that the README reports, beside torchvision, on random weights: no data is needed.

python tests/benchmarks/peers.py [output=FOLDER rounds=N ...] [--runs runs/A runs/B]

About ten minutes on two cores. --runs adds trained runs, on the photographs in photos=FOLDER where that is given.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from common import arguments, parse, save, with_keys
from omegaconf import DictConfig
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.tools.benchmark import phase, prepare_machine
from pocketvision.tools.benchmarking import results
from pocketvision.tools.benchmarking.case import Case, run_case
from pocketvision.tools.benchmarking.subject import Setup, Subject
from pocketvision.tools.benchmarking.variant import Spec
from pocketvision.tools.config import build
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.exporting.metadata import describe_file
from pocketvision.tools.exporting.writers import make_writer
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import LoadedRun
from pocketvision.tools.system import machine
from pocketvision.tools.system.console import columns, log
from pocketvision.tools.system.packages import extra, require

# title, keys that make the subject, batch sizes of inference, keys of training beside them
_SSDLITE = ("SSDLite 320", ("model=ssdlite_torchvision", "photo_size=[480,640]"), ("batch_size=16",))
_LRASPP = (
    "LR-ASPP",
    ("model=lraspp_torchvision", "data.resize=none", "data.eval_size=null", "photo_size=[512,1024]"),
    ("batch_size=4", "data.input_size=[480,480]"),
)
_BATCHES = (1, 8)
_KEPT = ("threads", "rounds", "repeats", "warmup", "memory", "device")  # of the command, in every case


def run_peers(config: DictConfig, threads: int, *, runs: Sequence[str] = ()) -> list[Case]:
    """All cases, each printed as soon as it is there, and all ratios at the end."""
    cases, start = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pocketvision-benchmark-") as folder:
        for title, setup in entries(config, threads, Path(folder), runs=runs):
            log.info("\n[%3.0f s] %s", time.monotonic() - start, title)
            with phase() as say:
                cases.append(run_case(setup, title, say=say))
            log.info("%s", results.table(cases[-1]))
    log.info("\n[%3.0f s] %s", time.monotonic() - start, summary(cases))
    return cases


def entries(config: DictConfig, threads: int, folder: Path, *, runs: Sequence[str] = ()) -> Iterator[tuple[str, Setup]]:
    """Titles and setups of the cases to come; files are exported into `folder` as they are needed."""
    for name, keys, training in (_SSDLITE, _LRASPP):
        base = Setup(_composed(config, *keys), threads)
        yield from _batches(base, f"{name}, {_side(base.config.photo_size)} photograph", folder / name)
        learning = Setup(_composed(config, *keys, *training, "training=true", "warmup=1", "repeats=1"), threads)
        title = f"{name}, training step, batch {learning.config.batch_size} at {_side(learning.config.data.input_size)}"
        yield title, replace(learning, specs=(Spec("torchvision"), Spec("pocketvision")))
    for number, run in enumerate(runs):  # on photographs of its own where there are some
        own = _composed(config, f"photo_size=[{','.join(map(str, config.photo_size))}]")
        own.run = run
        files = tuple(map(str, find_images([config.photos]))) if config.photos else ()
        yield from _batches(Setup(own, threads, files), run, folder / f"run {number}")


def _batches(base: Setup, title: str, folder: Path) -> Iterator[tuple[str, Setup]]:
    specs = _specs(export_files(Subject(base), folder))
    for batch in _BATCHES:
        # Many photographs at a time are timed less often: else the suite would spend most of its time there.
        setup = base if batch == 1 else with_keys(base, batch_size=batch, warmup=1, repeats=1)
        yield f"{title}, batch {batch}", replace(setup, specs=specs)


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


def export_files(subject: Subject, folder: Path) -> dict[str, Path]:
    """Files by format, for single photographs; what cannot be is said."""
    run: LoadedRun = subject.run
    found: dict[str, Path] = {}
    if not compiler():
        log.info("without torch.compile: no C++ compiler here")
    photo = subject.photos[0].shape[:2]
    fixed = None if run.config.data.resize == "stretch" else photo
    for format in ("onnx", "openvino"):
        try:
            require(FORMATS[format].writing, installs=extra(format), need=f"the part of {format}")
            interface = make_interface(run, input="photo", input_size=fixed)
        except ValueError as error:
            log.info("without %s: %s", format, error)
            continue
        path = folder / f"model{FORMATS[format].ending}"
        folder.mkdir(exist_ok=True)
        config = load_checkpoint(run.path)["config"] if subject.settings.run else portable(subject.setup.config)
        about = describe_file(run, interface, config=config, format=format, precision="fp32", source=folder.name)
        make_writer(format, run, interface).write(interface, path, about)
        found[format] = path
    return found


def summary(cases: Sequence[Case]) -> str:
    """The ratios of all cases in one table: a line for each case, a column for each variant."""
    names = list(dict.fromkeys(row.name for case in cases for row in case.rows[1:]))
    lines = [["times faster than torchvision", *names]]
    for case in cases:
        found = {row.name: f"{row.ratio:.2f}" for row in case.rows[1:]}
        lines.append([case.title, *(found.get(name, "-") for name in names)])
    return "\n".join(columns(lines))


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", nargs="+", default=[], metavar="RUN", help="trained runs to measure as well")
    options, config = parse(parser, argv)
    if given := [key for key in ("run", "file", "model", "peer") if config.get(key)]:
        parser.error(f"the networks are given here: leave {', '.join(given)} out (--runs adds yours)")
    settings_of(config, BenchmarkConfig)
    threads = config.threads or machine.physical_cores()
    about = prepare_machine(config.device, threads)
    save(config, run_peers(config, threads, runs=options.runs), machine=about)


if __name__ == "__main__":
    main()
