"""Mutated data sets: whatever files hold, a check ends with findings, never with a traceback."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pocketvision.datasets.checking.check import Checked

COUNT = int(os.environ.get("POCKETVISION_MUTATIONS", "120"))  # data sets
_ODD: list[Any] = [None, -1, 0, 1e308, -1e308, 2**70, "", "\0", "../x", "a/b", [], {}, [1], True, "\ud800", "T0.PNG"]


def _mangle_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, doubled, or with a hole."""
    if not data:
        return data
    how, place = rng.randrange(5), rng.randrange(len(data))
    if how == 0:
        return data[:place]
    if how == 1:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 4, 64))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if how == 2:
        return data[:place] + bytes(rng.randrange(1, 200)) + data[place:]
    if how == 3:
        return data[:place] + data[place + rng.randrange(1, 60) :]
    return rng.randbytes(len(data))


def _mangle_value(value: Any, rng: random.Random) -> Any:
    """A value somewhere in a json replaced, removed or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _mangle_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return [*value, value[place]]
        return [*value[:place], _mangle_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(_ODD)


def _mangle(data: Any, rng: random.Random) -> None:
    if hasattr(data, "splits"):
        for _ in range(rng.randrange(4)):
            split = rng.choice(("train", "val"))
            data.splits[split] = _mangle_value(data.splits[split], rng)
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
            path.write_bytes(_mangle_bytes(path.read_bytes(), rng))


@pytest.mark.parametrize("kind", ["Boxes", "Masks", "City", "Folders"])
def test_mutated_data_sets_are_checked_to_the_end(kind: str, tmp_path: Path, world: Any) -> None:
    found: list[str] = []
    for number in range(COUNT // 4):
        rng, root = random.Random(f"{kind} {number}"), tmp_path / str(number)
        root.mkdir()
        data = getattr(world, kind)(root)
        _mangle(data, rng)
        try:
            checked: Checked = data.check()
        except FileNotFoundError:  # the first file or folder is gone: the command tells that in one line
            continue
        found += [finding.fault.kind for finding in checked.findings]
        json.dumps([finding.fault.message for finding in checked.findings])
    assert len(set(found)) >= {"Boxes": 8, "Masks": 5, "City": 4, "Folders": 3}[kind], set(found)


def test_the_mutations_reach_every_kind_of_file(make: Callable[[type], Any], world: Any) -> None:
    rng = random.Random(0)
    data = world.encoded(world.picture(0))
    assert len({_mangle_bytes(data, rng) for _ in range(50)} - {data}) >= 45
    splits = make(world.Boxes).splits["train"]
    assert sum(_mangle_value(splits, rng) != splits for _ in range(50)) >= 45
