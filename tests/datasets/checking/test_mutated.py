"""Mutated data sets: whatever files hold, a check ends with findings, never with a traceback."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.checking.check import Checked

COUNT = 30  # data sets of each kind


def _spoil(data: Any, rng: random.Random, mutations: Any) -> None:
    draw = np.random.default_rng(rng.randrange(1 << 32))
    if hasattr(data, "splits"):
        for _ in range(rng.randrange(4)):
            split = rng.choice(("train", "val"))
            data.splits[split] = mutations.damaged_value(data.splits[split], draw)
    files = sorted(path for path in data.root.rglob("*") if path.is_file())
    for path in rng.sample(files, min(len(files), rng.randrange(6))):
        other = rng.choice(files)
        how = rng.randrange(8)
        if how == 0:
            path.unlink()
        elif how == 1 and other.exists():
            path.write_bytes(other.read_bytes())
        elif how == 2 and other.exists():
            path.rename(path.with_name(f"{rng.randrange(99)}{other.name}"))
        elif path.exists():
            path.write_bytes(mutations.damage(path.read_bytes(), draw))


@pytest.mark.parametrize("kind", ["Boxes", "Masks", "City", "Folders"])
def test_mutated_data_sets_are_checked_to_the_end(kind: str, tmp_path: Path, world: Any, mutations: Any) -> None:
    found: list[str] = []
    for number in range(COUNT):
        rng, root = random.Random(f"{kind} {number}"), tmp_path / str(number)
        root.mkdir()
        data = getattr(world, kind)(root)
        _spoil(data, rng, mutations)
        try:
            checked: Checked = data.check()
        except FileNotFoundError:  # the first file or folder is gone: the command tells that in one line
            continue
        found += [finding.fault.kind for finding in checked.findings]
        json.dumps([finding.fault.message for finding in checked.findings])
    assert len(set(found)) >= {"Boxes": 8, "Masks": 5, "City": 4, "Folders": 3}[kind], set(found)
