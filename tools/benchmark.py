"""Measure time and memory of a run, model or exported file, optionally beside torchvision.

pocketvision benchmark run=runs/first optimize=true photos=holiday
pocketvision benchmark model=ssdlite_torchvision peer=torchvision optimize=true batch_size=8
pocketvision benchmark run=runs/first formats=all

Measures how long a network takes from a photograph to boxes, a label map or classes, by stage. peer=torchvision adds
torchvision's own model with the same weights. All variants must agree first and are then timed in turn, in one
process. formats= exports the run to every format and precision that is installed, and compares accuracy, size, time
and memory. The remaining keys are training keys; only experiments use them. More examples:

  pocketvision benchmark run=runs/first file=runs/first/model.onnx
  pocketvision benchmark run=runs/first formats=[onnx,openvino:int8] raw=true rounds=20
  pocketvision benchmark experiment=lraspp_cityscapes photo_size=[512,1024] optimize=true precision=bf16
  pocketvision benchmark model=ssdlite_torchvision peer=torchvision training=true batch_size=16
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.tools.benchmarking import format_results, results
from pocketvision.tools.benchmarking.case import Case, run_case, specs_of
from pocketvision.tools.benchmarking.format_choice import check_formats
from pocketvision.tools.benchmarking.formats import FormatTable, measure_formats
from pocketvision.tools.benchmarking.subject import Setup, check_subject
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.system import machine
from pocketvision.tools.system.console import log
from tqdm import tqdm


def benchmark(config: DictConfig) -> Case | FormatTable:
    """Measure, print, and write results.json and a picture to `output`."""
    settings = settings_of(config, BenchmarkConfig)
    check(settings)
    threads = settings.threads or (machine.physical_cores() if settings.formats is None else 1)
    about = prepare_machine(settings.device if settings.formats is None else "cpu", threads)
    if settings.formats is not None:
        with phase() as say:
            found = measure_formats(config, settings, threads=threads, say=say)
        log.info("\n%s", format_results.table(found))
        if settings.output:
            format_results.write(Path(settings.output), found, machine=about)
        return found
    files = tuple(map(str, find_images([settings.photos]))) if settings.photos else ()
    with phase() as say:
        case = run_case(Setup(config, threads, files, specs_of(settings)), title(settings), say=say)
    log.info("\n%s", results.table(case))
    if settings.output:
        results.write(Path(settings.output), [case], machine=about)
    return case


def prepare_machine(device: str, threads: int) -> dict[str, Any]:
    """Pin the number of threads, and describe the machine."""
    machine.pin_threads(threads)
    about = machine.describe(pick_device(device), threads)
    log.info("%s", ", ".join(f"{key} {value}" for key, value in about.items()))
    return about


def check(settings: BenchmarkConfig) -> None:
    """Raise ValueError for values out of range and for keys that exclude each other."""
    if settings.run and settings.model:
        raise ValueError("run= already has a model: drop model= and experiment=, or drop run=")
    check_formats(settings)
    specs_of(settings)
    check_subject(settings)


def title(settings: BenchmarkConfig) -> str:
    """One line that names the subject of the measurement."""
    what = settings.run or settings.file or settings.model.network._target_.rpartition(".")[2]
    step = "training step, " if settings.training else ""
    return f"{what}, {step}batch {settings.batch_size}"


@contextmanager
def phase() -> Iterator[Callable[[str], object]]:
    """A status line on a terminal."""
    with tqdm(total=None, bar_format="{desc} {elapsed}", leave=False, disable=not sys.stderr.isatty()) as bar:
        yield bar.set_description_str


main = command("benchmark", benchmark, needs_data=False)

if __name__ == "__main__":
    main()
