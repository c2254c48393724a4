"""Exported files in their own runtimes: arrays in, arrays by name out."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .checksum import checksum_fault
from .interface import FORMATS, KEY
from .program import ForeignProgramError, check_torch

Call = Callable[[np.ndarray], dict[str, np.ndarray]]
RUNTIMES = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}
PACKAGES = {format: ("onnx", "onnxscript", *runtime) for format, runtime in RUNTIMES.items()}  # to write a file
QUANTIZERS = {"openvino": ("nncf",)}  # and in int8


@dataclass(frozen=True)
class ExportedFile:
    """A file ready to run. `run` takes uint8 of the input's shape and returns every output by name."""

    path: Path
    about: dict[str, Any]  # the file's metadata
    run: Call


def require(names: tuple[str, ...], *, extra: str, need: str) -> None:
    """Raise ValueError if a package is missing, with the command that installs it."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ValueError(f"{need} needs {', '.join(missing)}: pip install 'pocketvision[{extra}]'")


def open_file(path: str | Path, *, threads: int = 0, precision: str | None = None) -> ExportedFile:
    """Open a file that `pocketvision export` wrote.

    Args:
        threads: of the runtime; 0 for its default.
        precision: of OpenVINO's computation, fp32 or bf16; None for the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its runtime is not installed, it is corrupt, or it was not written by `pocketvision export`.
    """
    path = Path(path)
    openers = {"onnx": _open_onnx, "openvino": _open_openvino, "torch_export": _open_torch}
    format = next((name for name, ending in FORMATS.items() if path.suffix.lower() == ending), "")
    if not format:
        raise ValueError(f"{path} is not an exported file: expected the extension {', '.join(FORMATS.values())}")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    require(RUNTIMES.get(format, ()), extra=format, need=f"file={path}")
    if format == "torch_export":
        check_torch(f"file={path}")
    if fault := checksum_fault(path):
        raise ValueError(f"{path} {fault}. Copy it again, or export the run again")
    try:
        text, start = openers[format](path)
    except ForeignProgramError as error:
        raise ValueError(f"{path} {error}: export the run again with pocketvision export format={format}") from error
    except Exception as error:  # every runtime raises its own errors for truncated or other files
        first = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"{path} cannot be opened ({type(error).__name__}: {first[0][:200]}): corrupt, or not an exported file?"
        ) from error
    try:
        about = json.loads(text or "")
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or not {"task", "config", "precision", "interface", "labels"} <= about.keys():
        raise ValueError(f"{path} was not written by pocketvision export: it has no metadata")
    return ExportedFile(path, about, _guarded(path, start, threads, precision or about["precision"]))


def _guarded(path: Path, start: Callable[[int, str], Call], threads: int, precision: str) -> Call:
    """The call of a runtime; its own errors for a file that loads but does not run become a ValueError."""

    def told(error: Exception) -> ValueError:
        first = str(error).strip().splitlines() or [""]
        return ValueError(f"{path} does not run ({type(error).__name__}: {first[0][:200]}): corrupt?")

    try:
        call = start(threads, precision)
    except Exception as error:
        raise told(error) from error

    def guarded(array: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return call(array)
        except Exception as error:
            raise told(error) from error

    return guarded


def _open_onnx(path: Path) -> tuple[str | None, Callable[[int, str], Call]]:
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


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report every import to www.google-analytics.com.

    It is a package of its own, which OpenVINO does without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  its import fails
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of the process.

    Each Core that compiles gives the thread a signal stack, and removes it when it is destroyed. If two are destroyed
    in the order in which they were created, the second restores the first one's stack, which is already freed: the
    next signal that Python handles (from a loader process that ends) causes a SIGSEGV. Seen with OpenVINO 2026.4.
    """
    return import_openvino().Core()


def _open_openvino(path: Path) -> tuple[str | None, Callable[[int, str], Call]]:
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


def _open_torch(path: Path) -> tuple[str | None, Callable[[int, str], Call]]:
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
