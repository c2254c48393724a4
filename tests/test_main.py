"""The program's streams and signals: whatever is closed or pressed, there is no traceback."""

import os
import signal
import subprocess
import sys

import pytest

RUN = [sys.executable, "-m", "pocketvision"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such shell and signals")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    """What is printed goes nowhere, and no file that is opened later takes a stream's number."""
    code = (
        "import os, sys; from pocketvision.__main__ import main; sys.argv = ['pocketvision', '--version']; main()\n"
        "print(sys.stdin.fileno(), file=sys.stderr)\n"
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 'taken')"
    )
    done = subprocess.run(f'{sys.executable} -c "$CODE" {closed}', shell=True, capture_output=True, text=True,
                          env=os.environ | {"CODE": code})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "" if "2>" in closed else "0\n")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help", "all"], ["completion", "bash"]])
def test_a_reader_that_ends_early(arguments: list[str]) -> None:
    process = subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_ctrl_c_while_the_command_is_imported() -> None:
    """Imports run with the system's own handler, which ends the process; a command in progress gets its own."""
    code = (
        "import importlib, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what starts the tests may ignore it
        "from pocketvision import __main__ as program\n"
        "original = importlib.import_module\n"
        "def slow(name):\n"
        "    if name.endswith('.info'): os.kill(os.getpid(), signal.SIGINT)\n"
        "    return original(name)\n"
        "importlib.import_module = slow\n"
        "sys.argv = ['pocketvision', 'info']\n"
        "program.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    code = code.replace("if name.endswith('.info')", "if False")
    code = code.replace("program.main", "program._imported = lambda: lambda: os.kill(os.getpid(), 2); program.main")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\npocketvision: interrupted\n")
