"""CPU seconds until a command, or a load, has begun: the median of five, beside `import torch`.

python tests/benchmarks/startup.py [RUN]
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 5
SMALL = (
    "experiment=demo_detection", "data.num_train=4", "data.num_val=2", "data.input_size=[64,64]", "batch_size=4",
    "backbone.width=0.35", "workers=0", "threads=1", "device=cpu", "epochs=1", "max_steps=1",
)  # fmt: skip
POCKETVISION = ("-m", "pocketvision")


def cpu_seconds(arguments: tuple[str, ...], folder: Path) -> float:
    """User and system time of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pocketvision-startup-") as name:
        folder = Path(name)
        run = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else folder / "runs" / "demo_detection"
        if len(sys.argv) < 2:
            cpu_seconds((*POCKETVISION, "train", *SMALL), folder)
        starts = {
            "import torch": ("-c", "import torch"),
            "pocketvision --help": (*POCKETVISION, "--help"),
            "pocketvision train --help": (*POCKETVISION, "train", "--help"),
            "pocketvision info": (*POCKETVISION, "info", "experiment=ssdlite_coco"),
            "load(run)": ("-c", f"from pocketvision import load; load({str(run)!r})"),
            "import of train": ("-c", "import pocketvision.tools.train"),
            "train up to its task": ("-c", TASK),
        }
        medians: dict[str, float] = {}
        for title, arguments in starts.items():
            cpu_seconds(arguments, folder)  # compiles what is not compiled yet
            medians[title] = statistics.median(cpu_seconds(arguments, folder) for _ in range(REPEATS))
            beyond = medians[title] - medians["import torch"]
            print(f"{title:<28}{medians[title]:6.2f} s   beyond import torch {beyond:6.2f} s", flush=True)


TASK = f"""
from pocketvision.tools import train
from pocketvision.tools.config import build
config = build.compose(*{SMALL!r})
build.build_task(config, labels=build.build_source(config, "train").labels)
"""

if __name__ == "__main__":
    main()
