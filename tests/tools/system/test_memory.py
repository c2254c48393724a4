import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from pocketvision.tools.system.memory import keep_freed_memory

kept = keep_freed_memory() if {keep} else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.zeros(12_000_000).add_(1)  # 48 MB
before = faults()
for _ in range(10):
    torch.zeros(12_000_000).add_(1)
print(kept, faults() - before)
"""


def page_faults(*, keep: bool, **environment: str) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    printed = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout
    kept, faults = printed.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    kept, faults = page_faults(keep=True)
    if kept == "False":
        pytest.skip("this C library has no mallopt, or does not allow such a threshold")
    assert faults < page_faults(keep=False)[1] / 2
    assert page_faults(keep=True, MALLOC_ARENA_MAX="2")[0] == "False"
