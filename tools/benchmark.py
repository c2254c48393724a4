"""Measure time and memory of a run, a model or a file, beside torchvision's own.

pocketvision benchmark run=runs/first optimize=true photos=holiday
pocketvision benchmark model=ssdlite_torchvision peer=torchvision optimize=true batch_size=8
pocketvision benchmark run=runs/first file=runs/first/model.onnx

How long a network takes, from a photograph to boxes, a label map or classes, by stage, and beside torchvision's own
model with the same weights. All variants are timed in turns in one process, and have to agree before they are. Of the
keys of training, only experiments make use. More:

  pocketvision benchmark experiment=lraspp_cityscapes photo_size=[512,1024] optimize=true precision=bf16
  pocketvision benchmark model=ssdlite_torchvision peer=torchvision training=true batch_size=16
  pocketvision benchmark model=ssdlite_torchvision peer=torchvision sweep=detections
  pocketvision benchmark suite=peers output=docs/figures
  pocketvision benchmark suite=loading data=coco data.root=/data/coco batch_size=32
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig
from pocketvision.conf.limits import at_least
from pocketvision.tools.benchmarking import loading, plots, results, suite, sweeps
from pocketvision.tools.benchmarking.case import Case, run_case, specs_of
from pocketvision.tools.benchmarking.subject import Setup, check_subject
from pocketvision.tools.config.command import command
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.system import machine
from pocketvision.tools.system.console import log
from tqdm import tqdm


def benchmark(config: DictConfig) -> list[Case]:
    """Measure, print, and write results.json and pictures into `output`."""
    check(config)
    threads = 1 if config.suite == "loading" else config.threads or machine.physical_cores()
    machine.pin_threads(threads)
    device = pick_device(config.device)
    about = machine.describe(device, threads)
    log.info("%s", ", ".join(f"{key} {value}" for key, value in about.items()))
    pictures: dict[str, np.ndarray] = {}
    if config.suite == "loading":
        cases = run_loading_suite(config)
    elif config.suite:
        cases = run_suite(config, threads)
    else:
        files = tuple(map(str, find_images([config.photos]))) if config.photos else ()
        setup = Setup(config, threads, files, specs_of(config))
        if config.sweep:
            cases, pictures["growth.png"] = run_sweep(setup)
        else:
            with phase() as say:
                cases = [run_case(setup, title(config), say=say)]
            log.info("\n%s", results.table(cases[0]))
    pictures["benchmark.png"] = plots.draw_bars(cases)
    if config.output:
        write(Path(config.output), results.to_json(cases, machine=about), pictures)
    return cases


def check(config: DictConfig) -> None:
    """Raise ValueError for keys out of their range, or that do not go together."""
    for key in ("batch_size", "rounds", "repeats", "images"):
        at_least(key, config[key], 1)
    for key in ("warmup", "threads", "workers"):
        at_least(key, config[key], 0)
    if len(config.photo_size) != 2 or min(config.photo_size) < 1:
        raise ValueError(f"photo_size={list(config.photo_size)}: expected two positive numbers, [h,w]")
    if config.suite not in (None, *suite.SUITES):
        raise ValueError(f"suite={config.suite}: expected {', '.join(suite.SUITES)}")
    others = [key for key in ("run", "file", "sweep", "model", "peer") if config.get(key)]
    if config.suite and others:
        raise ValueError(
            f"suite={config.suite} brings its own networks: leave {', '.join(others)} out (runs=[...] adds)"
        )
    if config.enlarge is not None and (len(config.enlarge) != 2 or min(config.enlarge) < 1):
        raise ValueError(f"enlarge={list(config.enlarge)}: expected two positive numbers, [h,w]")
    if config.enlarge and config.suite != "loading":
        raise ValueError("enlarge=[h,w] goes with suite=loading")
    if config.suite == "loading" and config.threads > 1:
        raise ValueError("threads= does not go with suite=loading, which measures one core; workers=N adds processes")
    if config.runs and config.suite != "peers":
        raise ValueError("runs=[...] goes with suite=peers; a single one is run=FOLDER")
    if config.run and config.get("model"):
        raise ValueError("run= brings its model along: leave model= and experiment= out, or run=")
    if not config.suite:
        specs_of(config)
        check_subject(config)
    if config.sweep:
        sweeps.check_sweep(config)
    elif config.sweep_values:
        raise ValueError("sweep_values=[...] goes with sweep=pixels, classes, detections or batch")


def title(config: DictConfig) -> str:
    """What is measured, in one line."""
    what = config.run or config.file or config.model.network._target_.rpartition(".")[2]
    step = "training step, " if config.training else ""
    return f"{what}, {step}batch {config.batch_size}"


def run_suite(config: DictConfig, threads: int) -> list[Case]:
    """The cases of `suite=peers`, each told as soon as it is there, and all ratios at the end."""
    cases, start = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pocketvision-benchmark-") as folder:
        for entry in suite.entries(config, threads, Path(folder)):
            log.info("\n[%3.0f s] %s", time.monotonic() - start, entry.title)
            with phase() as say:
                cases.append(run_case(entry.setup, entry.title, say=say))
            log.info("%s", results.table(cases[-1]))
    log.info("\n[%3.0f s] %s", time.monotonic() - start, results.summary(cases))
    return cases


def run_loading_suite(config: DictConfig) -> list[Case]:
    """The cases of `suite=loading`, each told as soon as it is there."""
    cases = []
    with phase() as say:
        for case in loading.run_loading(config, say=say):
            log.info("\n%s", results.table(case))
            cases.append(case)
    return cases


def run_sweep(setup: Setup) -> tuple[list[Case], Any]:
    """The cases of a sweep, how each variant grows, and the picture of that."""
    with phase() as say:
        cases, points = sweeps.run_sweep(setup, title(setup.config), say=say)
    for case in cases:
        log.info("\n%s", results.table(case))
    axis = sweeps.AXES[setup.config.sweep]
    for name, line in points.items():
        log.info("%s: time grows as (%s) ^ %.2f", name, axis, sweeps.exponent(line))
    return cases, plots.draw_growth(f"{title(setup.config)}: time over {axis}", axis, points)


class phase:  # noqa: N801  a context manager
    """On a terminal, one line that says what goes on."""

    def __enter__(self) -> Callable[[str], object]:
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=None, bar_format="{desc} {elapsed}", leave=False, disable=hidden)
        return self._bar.set_description_str

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def write(folder: Path, told: dict[str, Any], pictures: dict[str, np.ndarray]) -> None:
    """results.json and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(told, indent=1) + "\n")
    for name, picture in pictures.items():
        cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tofile(folder / name)
    log.info("\nwritten: %s", ", ".join(str(folder / name) for name in ("results.json", *pictures)))


main = command("benchmark", benchmark, needs_data=False)

if __name__ == "__main__":
    main()
