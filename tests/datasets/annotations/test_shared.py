"""Arrays that processes share: equal in all of them, handed over by a handle, gone with the last one."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pocketvision.datasets.annotations import shared
from pocketvision.datasets.annotations.shared import Names, SharedArrays

ARRAYS = {
    "none": np.zeros((0, 4), np.float32),
    "boxes": np.arange(12, dtype=np.float64).reshape(3, 4),
    "crowd": np.array([True, False, True]),
    "texts": np.array(["a", "äöü"]),
}


def _equal(left, right):
    assert list(left) == list(right)
    for name in left:
        assert (left[name].dtype, left[name].shape) == (right[name].dtype, right[name].shape)
        np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("arrays", [{}, ARRAYS])
def test_arrays(arrays):
    made = SharedArrays(arrays)
    _equal(made, arrays)
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        _equal(copied, arrays)
    assert len(pickle.dumps(SharedArrays({"large": np.zeros(10**6)}))) > 10**6  # a copy, outside of a start


def test_truth_cannot_be_changed_by_mistake():
    with pytest.raises(ValueError, match="read-only"):
        SharedArrays(ARRAYS)["boxes"][0, 0] = 5
    with pytest.raises(TypeError, match="x is an array of object"):
        SharedArrays({"x": np.array([object()])})


@pytest.mark.parametrize("names", [[], [""], ["a.jpg", "", "日本/ü.png", "\udcff"], ["x"] * 1000])
def test_names(names):
    made = Names(names)
    assert (made.tolist(), len(made), made[:2]) == (names, len(names), names[:2])
    assert pickle.loads(pickle.dumps(made)).tolist() == names
    if names:
        assert made[-1] == names[-1]
    with pytest.raises(IndexError):
        made[len(names)]


def _send(arrays, connection):
    """The arrays, and whether this process has them from the memory that all share."""
    maps = Path("/proc/self/maps").read_text() if sys.platform == "linux" else ""
    connection.send(({name: np.array(array) for name, array in arrays.items()}, "memfd:pocketvision" in maps))


def _in_a_process(method):
    context = multiprocessing.get_context(method)
    mine, theirs = context.Pipe()
    process = context.Process(target=_send, args=(SharedArrays(ARRAYS), theirs))
    process.start()
    assert mine.poll(60)
    arrays, shared = mine.recv()
    process.join()
    _equal(arrays, ARRAYS)
    return shared


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_share(method):
    assert _in_a_process(method) == (sys.platform == "linux")


@pytest.mark.parametrize("way", ["temporary file", "not shared"])
def test_systems_without_anonymous_memory(way, monkeypatch):
    if way == "temporary file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(shared, "_memory", lambda size: None)
    _in_a_process("spawn")


def test_nothing_is_left_open():
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(5):
        Names(["a"] * 100)
        pickle.loads(pickle.dumps(SharedArrays(ARRAYS)))
    after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert after <= before


KILLED = """
import os, signal
import numpy as np
from pocketvision.datasets.annotations.shared import SharedArrays
kept = SharedArrays({"large": np.ones(10**6)})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="not on this system")
def test_a_killed_process_leaves_nothing_in_shared_memory():
    before = set(os.listdir("/dev/shm"))
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -9
    new = [Path("/dev/shm", name) for name in set(os.listdir("/dev/shm")) - before]
    assert not [path for path in new if path.is_file() and path.stat().st_size == 8 * 10**6]
