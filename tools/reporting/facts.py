"""What was evaluated, and on which machine with which versions: the details of a report."""

import importlib.metadata
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ...datasets.annotations.sample import Source
from ...words import counted
from ..runs.folder import logged_rows
from ..runs.keys import flat
from ..runs.loaded import LoadedRun
from ..system.console import thinned
from ..system.machine import describe

PACKAGES = ("pocketvision", "torch", "torchvision", "numpy", "opencv-python", "pycocotools", "albumentations")
MAX_ROWS = 500  # of a training log; a chart cannot resolve more


def facts(run: LoadedRun, source: Source, split: str) -> dict[str, str]:
    """What identifies the evaluation, by title."""
    parameters = sum(parameter.numel() for parameter in run.task.model.parameters())
    return {
        "network": run.config.model.network._target_.rpartition(".")[2],
        "parameters": f"{parameters:,}",
        "checkpoint": f"{run.path}, step {run.step:,}",
        "data": f"{type(source).__name__}, split {split}, {counted(len(source), 'image')}",
        "data hash": source.fingerprint(),
        "evaluated": time.strftime("%Y-%m-%d %H:%M"),
    }


def environment(device: torch.device) -> dict[str, str]:
    """Machine and versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {key: str(value) for key, value in describe(device, torch.get_num_threads()).items()} | versions


def command() -> str:
    """The command line of this process, quoted for a shell."""
    name, *arguments = sys.argv
    if not name.startswith("pocketvision "):  # the commands' own main() writes it there
        return "called from Python"
    return " ".join([name, *(shlex.quote(argument.removeprefix("++")) for argument in arguments)])


def settings(config: Any) -> dict[str, str]:
    """Dotted keys and their values: strings unchanged, everything else as JSON."""
    values = flat(config)
    return {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in values.items()}


def training_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, evenly thinned out if there are very many; empty without a file."""
    path = folder / "metrics.jsonl"
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for row in logged_rows(path) if path.is_file() else []:
        by_kind.setdefault(row["kind"], []).append(row)
    return [row for rows in by_kind.values() for row in thinned(rows, MAX_ROWS)]
