"""Freed blocks of the size of large tensors are used again. Without torch: its tensors come from the same malloc."""

import os
import subprocess
import sys

import pytest
from pocketvision.tools.system.memory import keep_freed_memory

SCRIPT = """
import resource
from pocketvision.tools.system.memory import keep_freed_memory

kept = keep_freed_memory() if {keep} else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    b"x" * 48_000_000
before = faults()
for _ in range(10):
    b"x" * 48_000_000
print(kept, faults() - before)
"""


def page_faults(*, keep: bool) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    kept, faults = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, faults = page_faults(keep=True)
    if kept == "False":
        pytest.skip("this C library has no mallopt, or does not allow such a threshold")
    assert faults < page_faults(keep=False)[1] / 2
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")  # the user's own choice is left alone
    assert not keep_freed_memory()
