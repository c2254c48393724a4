"""Processes that die, hang and answer in any order; the findings are the same."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pocketvision.datasets.checking import check
from pocketvision.datasets.checking import workers as processes
from pocketvision.datasets.checking.examine import Examined, examine
from pocketvision.datasets.checking.workers import run


def work(item: int) -> int:
    """Squares; some items end their process."""
    if item == -9:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == -1:
        os._exit(7)
    if item == -60:
        time.sleep(60)
    return item * item


def lost(item: int, why: str) -> str:
    return f"{item} {why}"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_are_in_order(workers: int) -> None:
    done: list[int] = []
    assert run(work, [], workers=workers, lost=lost) == []
    assert run(work, range(50), workers=workers, lost=lost, progress=done.append) == [i * i for i in range(50)]
    assert done[-1] == 50
    assert done == sorted(done)


def test_an_item_that_ends_its_process_is_named_and_the_rest_goes_on() -> None:
    items = [*range(20), -9, -9, *range(20, 40), -1, 40]
    why = {-9: "signal 9, often: out of memory", -1: "exit status 7"}
    expected = [i * i if i >= 0 else f"{i} it ended its process ({why[i]})" for i in items]
    assert run(work, items, workers=2, lost=lost) == expected


def test_an_item_that_takes_too_long_is_given_up() -> None:
    assert run(work, [1, -60, 2], workers=1, lost=lost, patience=0.5) == [1, "-60 it took longer than 0.5 s", 4]


def test_processes_that_never_answer_are_no_items_fault() -> None:
    with pytest.raises(OSError, match=r"process(es)? ended before returning any result: it ended .*exit status 7"):
        run(work, [-1] * 100, workers=2, lost=lost)
    with pytest.raises(ValueError, match="workers=-1"):
        run(work, [], workers=-1, lost=lost)


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="not on this system")
def test_a_process_of_a_forkserver_waits_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that it belongs to is not its parent."""
    monkeypatch.setattr(processes, "multiprocessing", multiprocessing.get_context("forkserver"))
    worker = processes._Worker(abs)
    try:
        worker.give(deque([0]), [-5])
        assert worker.connection.poll(60)  # it has started
        worker.process.join(1.5)  # and looks for its parent once a second
        assert worker.process.is_alive()
    finally:
        worker.end()


def test_an_exception_of_the_job_is_an_end_too() -> None:
    assert "exit status 1" in str(run(work, ["a", 2], workers=1, lost=lost)[0])  # type: ignore[list-item]


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "from pocketvision.datasets.checking.workers import run\n"
        "def job(item):\n"
        f"    open(f'{tmp_path}/{{os.getpid()}}', 'w').close()\n"
        "    time.sleep(0.02)\n"
        "run(job, range(1000), workers=2, lost=None)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    _wait_until(lambda: len(os.listdir(tmp_path)) == 2)
    parent.kill()
    parent.wait()
    workers = [int(name) for name in os.listdir(tmp_path)]
    _wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("nothing happened")


def killed_by_t1(picture: Any, **values: Any) -> Examined:
    if picture.name == "t1.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return examine(picture, **values)


def test_a_picture_that_ends_its_process_is_a_finding(
    make: Callable[[type], Any], world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "examine", killed_by_t1)
    (finding,) = make(world.Boxes).check(workers=2).findings
    assert (finding.fault.kind, finding.split, finding.fault.image) == ("crash", "train", "t1.png")
    assert "cannot be decoded: it ended its process (signal 9, often: out of memory)" in finding.fault.message


def test_findings_do_not_depend_on_the_number_of_processes(make: Callable[[type], Any], world: Any) -> None:
    data = make(world.Boxes)
    for name in ("t1.png", "t3.png", "v6.png"):
        path = data.images / name
        path.write_bytes(path.read_bytes()[:-100])
    data.add(0, [70, 3, 9, 9])
    alone = data.check()
    assert len(alone.findings) == 4
    for workers in (1, 3):
        again = data.check(workers=workers)
        assert again.findings == alone.findings
        assert again.examined == alone.examined
