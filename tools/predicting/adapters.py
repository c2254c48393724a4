"""One adapter per format: a file's metadata, and its call in its own runtime: an array in, arrays by name out."""

import contextlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..system.packages import import_openvino
from .attached import METADATA, read_attached
from .interface import KEY

Call = Callable[[np.ndarray], dict[str, np.ndarray]]
# The text of its metadata, and what starts it with a number of threads (0: the runtime's default) in a precision.
Opened = tuple[str | None, Callable[[int, str], Call]]


class ThreadsError(ValueError):
    """A runtime cannot change its number of threads now."""


def open_onnx(path: Path) -> Opened:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3

    def session(threads: int) -> Any:
        options.intra_op_num_threads = threads
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    first = session(1)

    def start(threads: int, precision: str) -> Call:
        ready = session(threads) if threads != 1 else first
        names, name = [item.name for item in ready.get_outputs()], ready.get_inputs()[0].name
        return lambda array: dict(zip(names, ready.run(None, {name: array}), strict=True))

    return first.get_modelmeta().custom_metadata_map.get(KEY), start


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of the process.

    Each Core that compiles gives the thread a signal stack, and removes it when it is destroyed. If two are destroyed
    in the order in which they were created, the second restores the first one's stack, which is already freed: the
    next signal that Python handles (from a loader process that ends) causes a SIGSEGV. Seen with OpenVINO 2026.4.
    """
    return import_openvino().Core()


def open_openvino(path: Path) -> Opened:
    core = openvino_core()
    model = core.read_model(path)
    text = model.get_rt_info(["pocketvision", KEY]).value if model.has_rt_info(["pocketvision", KEY]) else None

    def start(threads: int, precision: str) -> Call:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        # Of an output's several names, the one in the graph's list of outputs.
        wanted = list(json.loads(text or "{}").get("outputs", {}))
        names = [next((n for n in wanted if n in output.names), output.any_name) for output in compiled.outputs]

        def call(array: np.ndarray) -> dict[str, np.ndarray]:
            request.infer({0: array})
            return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(names)}

        return call

    return text, start


def open_torch(path: Path) -> Opened:
    import torch
    import torchvision  # noqa: F401  its NMS is one of the program's operators

    from .program import open_program

    module, text = open_program(path)

    def start(threads: int, precision: str) -> Call:
        if threads:
            torch.set_num_threads(threads)

        @torch.inference_mode()
        def call(array: np.ndarray) -> dict[str, np.ndarray]:
            return {name: value.numpy() for name, value in module(torch.from_numpy(array)).items()}

        return call

    return text, start


def open_litert(path: Path) -> Opened:
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    def interpreter(threads: int) -> Any:
        return Interpreter(model_path=str(path), num_threads=threads or None)

    interpreter(1)  # a file that it cannot read is found out here

    def start(threads: int, precision: str) -> Call:
        ready = interpreter(threads)
        ready.allocate_tensors()
        runner = ready.get_signature_runner()
        (name,) = runner.get_input_details()
        return lambda array: runner(**{name: array})

    return read_attached(path, METADATA), start


_started: Any = weakref.WeakSet()  # methods of ExecuTorch


def open_executorch(path: Path) -> Opened:
    text = read_attached(path, METADATA)
    if text is None:  # of other files, some would abort the process
        raise ValueError("it has no metadata")
    import torch

    names = list(json.loads(text)["outputs"])
    with _quiet_stderr():
        from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

        program = Runtime.get().load_program(path)

    def start(threads: int, precision: str) -> Call:
        with _quiet_stderr():
            _set_executorch_threads(threads)
            method = program.load_method("forward")
        _started.add(method)

        def call(array: np.ndarray) -> dict[str, np.ndarray]:
            # It would take the numbers of any other layout in the wrong order.
            outputs = method.execute([torch.from_numpy(np.ascontiguousarray(array))])
            return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

        return call

    return text, start


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppress what C++ writes to standard error: ExecuTorch says there what it does not find out about x86."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _set_executorch_threads(threads: int) -> None:
    """Of the process; 0 leaves them as they are.

    Raises:
        ThreadsError: a file is in use that has other ones: it would go on with threads that have ended, and crash.
    """
    from executorch.extension.pybindings import portable_lib  # pyright: ignore[reportMissingImports]

    found = portable_lib._threadpool_get_thread_count()
    if threads in (0, found):
        return
    if _started:
        raise ThreadsError(
            f"threads={threads}: the process has other ExecuTorch files in use, which share their threads: set "
            f"threads={found}, or release them"
        )
    portable_lib._unsafe_reset_threadpool(threads)


OPENERS = {
    "onnx": open_onnx, "openvino": open_openvino, "torch_export": open_torch, "litert": open_litert,
    "executorch": open_executorch,
}  # fmt: skip
