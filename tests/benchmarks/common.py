"""What the scripts of this folder share: arguments, the configuration, and what a run of them leaves behind."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from pocketvision.tools.benchmarking import results
from pocketvision.tools.benchmarking.case import Case
from pocketvision.tools.benchmarking.subject import Setup
from pocketvision.tools.config.build import compose
from pocketvision.tools.system.console import configure_logging, log
from pocketvision.tools.system.memory import keep_freed_memory

Say = Callable[[str], object]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, DictConfig]:
    """The script's own options, and the configuration of `pocketvision benchmark` with the keys given."""
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="keys of `pocketvision benchmark`")
    options = parser.parse_intermixed_args(argv)
    configure_logging()
    keep_freed_memory()
    return options, compose(*options.keys, config_name="benchmark")


def with_keys(setup: Setup, **keys: Any) -> Setup:
    """The same setup with some keys of the configuration changed."""
    config = setup.config.copy()
    for key, value in keys.items():
        OmegaConf.update(config, key, value, force_add=True)
    return replace(setup, config=config)


def collect(cases: Iterable[Case]) -> list[Case]:
    """All cases; the table of each is printed as soon as the case is there."""
    found = []
    for case in cases:
        log.info("\n%s", results.table(case))
        found.append(case)
    return found


def save(
    config: DictConfig,
    cases: Sequence[Case],
    *,
    machine: dict[str, Any],
    pictures: Mapping[str, np.ndarray] | None = None,
) -> None:
    """results.json and the pictures in `output`, if there is one."""
    if config.output:
        results.write(Path(config.output), cases, machine=machine, pictures=pictures)
