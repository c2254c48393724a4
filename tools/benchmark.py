"""Measure time and memory of a run, model or exported file, optionally beside torchvision.

pocketvision benchmark run=runs/first optimize=true photos=holiday
pocketvision benchmark model=ssdlite_torchvision peer=torchvision optimize=true batch_size=8
pocketvision benchmark run=runs/first file=runs/first/model.onnx

Measures how long a network takes from a photograph to boxes, a label map or classes, by stage. peer=torchvision adds
torchvision's own model with the same weights. All variants must agree first and are then timed in turn, in one
process. The remaining keys are training keys; only experiments use them. More examples:

  pocketvision benchmark experiment=lraspp_cityscapes photo_size=[512,1024] optimize=true precision=bf16
  pocketvision benchmark model=ssdlite_torchvision peer=torchvision training=true batch_size=16
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pocketvision.conf.limits import at_least
from pocketvision.tools.benchmarking import plots, results
from pocketvision.tools.benchmarking.case import Case, run_case, specs_of
from pocketvision.tools.benchmarking.subject import Setup, check_subject
from pocketvision.tools.config.command import command
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.system import machine
from pocketvision.tools.system.console import log
from tqdm import tqdm


def benchmark(config: DictConfig) -> Case:
    """Measure, print, and write results.json and a picture to `output`."""
    check(config)
    threads = config.threads or machine.physical_cores()
    about = prepare_machine(config, threads)
    files = tuple(map(str, find_images([config.photos]))) if config.photos else ()
    with phase() as say:
        case = run_case(Setup(config, threads, files, specs_of(config)), title(config), say=say)
    log.info("\n%s", results.table(case))
    if config.output:
        results.write(Path(config.output), [case], machine=about, pictures={"benchmark.png": plots.draw_bars([case])})
    return case


def prepare_machine(config: DictConfig, threads: int) -> dict[str, Any]:
    """Pin the number of threads, and describe the machine."""
    machine.pin_threads(threads)
    about = machine.describe(pick_device(config.device), threads)
    log.info("%s", ", ".join(f"{key} {value}" for key, value in about.items()))
    return about


def check(config: DictConfig) -> None:
    """Raise ValueError for values out of range and for keys that exclude each other."""
    check_numbers(config)
    if config.run and config.get("model"):
        raise ValueError("run= already has a model: drop model= and experiment=, or drop run=")
    specs_of(config)
    check_subject(config)


def check_numbers(config: DictConfig) -> None:
    """Raise ValueError for values out of range."""
    for key in ("batch_size", "rounds", "repeats"):
        at_least(key, config[key], 1)
    for key in ("warmup", "threads", "workers"):
        at_least(key, config[key], 0)
    if len(config.photo_size) != 2 or min(config.photo_size) < 1:
        raise ValueError(f"photo_size={list(config.photo_size)}: expected two positive numbers, [h,w]")


def title(config: DictConfig) -> str:
    """One line that names the subject of the measurement."""
    what = config.run or config.file or config.model.network._target_.rpartition(".")[2]
    step = "training step, " if config.training else ""
    return f"{what}, {step}batch {config.batch_size}"


class phase:  # noqa: N801  a context manager
    """A status line on a terminal."""

    def __enter__(self) -> Callable[[str], object]:
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=None, bar_format="{desc} {elapsed}", leave=False, disable=hidden)
        return self._bar.set_description_str

    def __exit__(self, *_: object) -> None:
        self._bar.close()


main = command("benchmark", benchmark, needs_data=False)

if __name__ == "__main__":
    main()
