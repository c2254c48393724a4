"""Training runs as processes of their own, and ways to end them that nobody wishes for. Linux only."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Started:
    """A training process (with `ranks` > 1 torchrun's) and the run folder that only it and its children name."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    def pids(self) -> list[int]:
        """The process, its ranks and its forked loader processes, the eldest first."""
        return sorted(pid for pid in _pids() if f"run_dir={self.folder}" in _command_line(pid))

    def ranks(self) -> list[int]:
        """The processes that torchrun started."""
        return [pid for pid in self.pids() if _parent(pid) == self.process.pid]

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None where it still runs after `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def complaint(self) -> str:
        """What the process printed about its end: its first error, or the last lines."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in lines if "train: error" in line), "\n".join(lines[-20:]))


@contextmanager
def training(overrides: Sequence[str], folder: Path, *, ranks: int = 1) -> Iterator[Started]:
    """`pocketvision train` with these overrides in the run folder `folder`, gone when the block is left.

    Its output goes into a file beside the folder.
    """
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "pocketvision", "train", *overrides, f"run_dir={folder}"]
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    started = Started(process, folder, log)
    try:
        yield started
    finally:
        if process.poll() is None:
            _send(started.pids(), signal.SIGKILL)
            process.wait()


def end(started: Started, way: str, chance: random.Random) -> None:
    """End it in one of WAYS, and wait until the last of its processes is gone.

    Raises:
        TimeoutError: one is still there after two minutes.
    """
    WAYS[way](started, chance)
    deadline = time.monotonic() + 120
    while started.wait(0.05) is None or started.pids():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {way} processes {started.pids()} still run, see {started.log}")
        time.sleep(0.05)


def _kill_all(started: Started, chance: random.Random) -> None:
    _send(started.pids(), signal.SIGKILL)


def _kill_one(started: Started, chance: random.Random) -> None:
    ranks = started.ranks()
    _send([chance.choice(ranks)] if ranks else started.pids(), signal.SIGKILL)


def _terminate(started: Started, chance: random.Random) -> None:
    started.process.terminate()


def _interrupt(started: Started, chance: random.Random) -> None:
    _send(started.pids(), signal.SIGINT)


WAYS = {
    "SIGKILL of one rank": _kill_one,
    "Ctrl-C": _interrupt,
    "SIGKILL": _kill_all,  # what a power failure leaves of a run
    "SIGTERM": _terminate,  # a job's time is over
}


def is_running(pid: int) -> bool:
    return bool(_command_line(pid)[:1])


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")  # nothing of a zombie
    except OSError:
        return []


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    except OSError:
        return None
