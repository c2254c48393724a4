"""Does a GPU do what the tests prove on the CPU, and how fast? Five minutes, one GPU.

make test-gpu PYTHON=python3        the same as: python3 tests/gpu/check.py

Installs nothing and needs no data: any Python with torch and the packages that it lists if they are missing, and a bare
clone. Each part runs in a process of its own and is stopped when its time is over; the most telling come first.
Exit status: 0 if all that ran is as it should be, or there is no GPU; 1 otherwise.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "torchvision", "numpy", "cv2", "pycocotools", "albumentations", "hydra", "omegaconf", "safetensors",
          "tqdm", "tensorboard", "matplotlib", "jinja2", "defusedxml")  # fmt: skip
TOTAL = 290.0  # seconds
PRECISIONS = ("fp32", "bf16", "fp16")
# The largest relative difference of the first losses from the CPU's in fp32. fp32 convolutions run in TF32 on a GPU.
LIMITS = {"fp32": 5e-3, "bf16": 5e-2, "fp16": 2e-2}


@dataclass
class Row:
    """What was looked at, what was found, and whether that is right (None: a figure that is neither)."""

    what: str
    found: str
    good: bool | None = None


@dataclass
class Setup:
    """Where the parts run, how long they train, and what makes a training smaller than the demo's."""

    folder: Path
    device: str = "cuda"
    steps: int = 100
    precisions: Sequence[str] = PRECISIONS
    smaller: Sequence[str] = ()

    def train(self, kind: str, name: str, *keys: str) -> list[dict[str, Any]]:
        """Train a demo in `folder/name`; the rows of its log."""
        from pocketvision.tools.config.build import compose
        from pocketvision.tools.train import train

        run = self.folder / name
        train(compose(
            f"experiment=demo_{kind}", f"run_dir={run}", f"device={self.device}", "log_every=1", "epochs=2",
            "eval_every=2", "data.num_val=64", "schedule.warmup_epochs=0", *self.smaller, *keys,
        ))  # fmt: skip
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows if row["kind"] == "train"]


def trains(setup: Setup, kind: str) -> Iterator[Row]:
    """A demo in every precision: its first losses beside the CPU's, and whether they fall."""
    cpu = Setup(setup.folder, "cpu", smaller=setup.smaller)
    reference = losses(cpu.train(kind, f"{kind}_cpu", "max_steps=2", "workers=0"))
    for precision in setup.precisions:
        found = losses(setup.train(kind, f"{kind}_{precision}", f"max_steps={setup.steps}", f"precision={precision}"))
        apart = max(abs(a / b - 1) for a, b in zip(found, reference, strict=False))
        yield Row(
            f"{kind} {precision}: first losses against the CPU's", f"{apart:.1e} apart", apart < LIMITS[precision]
        )
        few = max(1, len(found) // 5)
        start, end = (sum(part) / few for part in (found[:few], found[-few:]))
        yield Row(f"{kind} {precision}: {len(found)} steps", f"loss {start:.3f} -> {end:.3f}", end < start < math.inf)


def detection(setup: Setup) -> Iterator[Row]:
    return trains(setup, "detection")


def segmentation(setup: Setup) -> Iterator[Row]:
    return trains(setup, "segmentation")


def no_sync(setup: Setup) -> Iterator[Row]:
    """No step waits for the host; in fp16 only where the loss scale does."""
    for kind, precision in product(("detection", "segmentation"), setup.precisions):
        waits = [wait for wait in _waits(setup, kind, precision) if precision != "fp16" or "torch/amp" not in wait]
        yield Row(f"{kind} {precision}: a step does not wait", "; ".join(waits) or "no wait", not waits)


def _waits(setup: Setup, kind: str, precision: str) -> list[str]:
    """The places where a training step waits for the device."""
    import torch
    from pocketvision.conf.schema import TrainConfig
    from pocketvision.tools.config import build
    from pocketvision.tools.config.settings import settings_of
    from pocketvision.tools.engine.distributed import Ranks
    from pocketvision.tools.engine.run import make_run
    from pocketvision.tools.engine.step import train_step

    device = torch.device(setup.device)
    config = build.compose(f"experiment=demo_{kind}", f"precision={precision}", *setup.smaller)
    settings, ranks = settings_of(config, TrainConfig), Ranks(0, 1, device)
    source = build.build_source(config, "train")
    dataset = build.build_dataset(config, source, training=True)
    loader = build.build_loader(dataset, batch_size=4, ranks=ranks, workers=0, training=True)
    run = make_run(
        build.build_task(config, labels=source.labels), settings, ranks, folder=setup.folder / "unused", header={},
        make_optimizer=build.optimizer_factory(settings), epochs=1, steps_per_epoch=10,
    )  # fmt: skip
    run.training_mode()
    batch = next(iter(loader))
    for _ in range(3):  # anchors, workspaces and the optimizer's state are made
        train_step(run, run.model, [batch])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        train_step(run, run.model, [batch])
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(each.filename).parent.name}/{Path(each.filename).name}:{each.lineno}" if "amp" not in each.filename
            else f"torch/amp:{each.lineno}" for each in caught if "synchroniz" in str(each.message)]  # fmt: skip


def resume(setup: Setup) -> Iterator[Row]:
    """A run that was stopped and resumed ends as one that was not: bit by bit on a CPU, nearly on a GPU."""
    from pocketvision.tools.engine.state import load_checkpoint

    steps = max(4, setup.steps // 5)
    setup.train("detection", "whole", f"max_steps={steps}")
    for stop in (steps // 2, steps):
        setup.train("detection", "parts", f"max_steps={stop}")
    whole, parts = (
        load_checkpoint(setup.folder / name / "checkpoints/last.pt")["model"] for name in ("whole", "parts")
    )
    apart = max(((whole[key] - parts[key]).float().norm() / (1e-6 + whole[key].float().norm())).item() for key in whole)
    yield Row("resumed run: weights", f"{apart:.1e} apart", apart < (0.1 if setup.device == "cuda" else 1e-12))


def deploy(setup: Setup) -> Iterator[Row]:
    """Evaluate, predict and export what was trained here."""
    from pocketvision.tools.config.build import compose
    from pocketvision.tools.evaluate import evaluate
    from pocketvision.tools.export import export
    from pocketvision.tools.predict import predict
    from pocketvision.tools.prepare import write_shapes

    run, scenes = setup.folder / "run", setup.folder / "scenes"
    metric = setup.train("detection", "run", f"max_steps={setup.steps}", "ema_decay=0.9")[-1]
    again = evaluate(compose(f"run={run}", "checkpoint=last", f"device={setup.device}", config_name="evaluate"))
    apart = abs(metric["AP"] - again["AP"])
    yield Row("evaluate: AP as in training", f"{again['AP']:.4f}, {apart:.1e} apart", apart < 2e-3)
    write_shapes(compose(f"output={scenes}", "num_train=2", "num_val=8", config_name="prepare"))
    keys = (f"run={run}", "checkpoint=last", f"device={setup.device}", f"inputs=[{scenes / 'val2017'}]")
    status = predict(compose(*keys, f"output={setup.folder / 'found'}", config_name="predict"))
    yield Row("predict: 8 pictures", f"exit status {status}", status == 0)
    kind = "onnx" if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx") else "torch_export"
    path = export(
        compose(
            f"run={run}", "checkpoint=last", f"format={kind}", "input=network", "num_photos=2", config_name="export"
        )
    )
    yield Row(f"export: {kind}, verified", f"{path.stat().st_size / 2**20:.1f} MB", True)


def speed(setup: Setup) -> Iterator[Row]:
    """Images a second while training, by loader processes and memory layout."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for workers, channels_last in product(sorted({0, min(4, cores), cores}), (True, False)):
        rows = setup.train(
            "detection", f"speed_{workers}_{channels_last}", f"workers={workers}", f"channels_last={channels_last}",
            f"max_steps={setup.steps}", f"log_every={setup.steps // 2}", f"precision={setup.precisions[-1]}",
            "batch_size=64", "data.input_size=[320,320]",
        )  # fmt: skip
        last = [row for row in rows if row["kind"] == "train"][-1]
        found = f"{last['images_per_second']:.0f} images/s, waiting for data {last['waiting_share']:.0%}"
        yield Row(f"SSDLite at 320, workers={workers} channels_last={channels_last}", found)


def compiled(setup: Setup) -> Iterator[Row]:
    """torch.compile gives the same first losses."""
    keys = ("max_steps=4", "data.num_val=4")
    plain = losses(setup.train("detection", "eager", *keys))
    found = losses(setup.train("detection", "compiled", *keys, "compile=true"))
    apart = max(abs(a / b - 1) for a, b in zip(found, plain, strict=True))
    yield Row("compile=true: losses", f"{apart:.1e} apart", apart < 2e-2)


# Each part and the seconds it may take.
PARTS: dict[str, tuple[Callable[[Setup], Iterator[Row]], float]] = {
    "detection": (detection, 70), "segmentation": (segmentation, 60), "no_sync": (no_sync, 40), "resume": (resume, 40),
    "deploy": (deploy, 60), "speed": (speed, 90), "compile": (compiled, 60),
}  # fmt: skip


def run_part(name: str, setup: Setup, rows_file: Path) -> None:
    """In the part's own process: write each row as soon as it is known."""
    with open(rows_file, "a") as file:
        for row in PARTS[name][0](setup):
            print(json.dumps(asdict(row)), file=file, flush=True)


def supervise(name: str, folder: Path, seconds: float) -> list[Row]:
    """Run a part in a process of its own, for so long at most; what it found."""
    rows_file, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    rows_file.touch()
    link = folder / "package" / "pocketvision"  # the clone may have any name
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(ROOT)
    path = os.pathsep.join(filter(None, (str(link.parent), os.environ.get("PYTHONPATH"))))
    with open(log, "w") as output:
        try:
            code = subprocess.run(
                [sys.executable, __file__, "--part", name, "--folder", str(folder)], stdout=output, stderr=output,
                env={**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}, timeout=seconds, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = None
    rows = [Row(**json.loads(line)) for line in rows_file.read_text().splitlines()]
    if code is None:
        rows.append(Row(name, f"stopped after {seconds:.0f} s", None))
    elif code:
        rows.append(Row(name, f"ended with {code}: {' | '.join(log.read_text().splitlines()[-3:])}", False))
    return rows


def show(row: Row, seconds: float) -> None:
    verdict = {True: "ok", False: "FAILED", None: ""}[row.good]
    print(f"{seconds:5.0f} s  {row.what:58}  {row.found:44}  {verdict}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        run_part(options.part, Setup(options.folder), options.folder / f"{options.part}.jsonl")
        return 0
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"test-gpu: {sys.executable} lacks {', '.join(missing)}: nothing was checked")
        return 1
    import torch

    if not torch.cuda.is_available():
        print(f"test-gpu: torch {torch.__version__} of {sys.executable} finds no CUDA GPU: skipped")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    begun, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, cap) in PARTS.items():
            left = TOTAL - (time.monotonic() - begun)
            rows = supervise(name, Path(folder), min(cap, left)) if left > 10 else [Row(name, "no time left", None)]
            for row in rows:
                show(row, time.monotonic() - begun)
            failed += sum(row.good is False for row in rows)
    print(f"{failed} failed" if failed else "all that was judged is right")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
