"""The inputs and outputs of an exported file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.augmentation.resize import RESIZES
from ..runs.loaded import LoadedRun
from .formats import FORMATS
from .mediapipe import OUTPUTS

KEY = "pocketvision"  # our entry in ONNX's metadata_props and OpenVINO's rt_info
EXTRA_FILE = "pocketvision.json"  # in torch.export's archive
INPUTS = ("photo", "network", "float")
RAW_NAMES = {
    "detection": ("class_logits", "box_deltas"),  # and anchors, which are constants
    "segmentation": ("logits",),
    "classification": ("logits",),
}
_MOST = 1 << 24  # of a side, a batch or candidates
ANY = 160  # size for tracing where any size is allowed: a multiple of every stride, larger than any pooling window


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The input and the outputs of one file.

    - `input`: "photo" is uint8 RGB [1, H, W, 3]; the file resizes it, and results are in the photograph's pixels.
      "network" is uint8 RGB [B, 3, h, w] of one size; results are in its pixels. "float" is the same in float32, from
      0 to 1.
    - `outputs`: "final" boxes, label map or classes; "raw" for the network's outputs; "mediapipe" for those as
      MediaPipe Tasks reads them.
    - `input_size`: (h, w) of the input; None means any.
    - `network_size`: (h, w) that the network sees; None means the photograph's own.
    - `batch`: the batch size; None means any.
    - `candidates`: the number of best (anchor, class) pairs passed to non-maximum suppression.
    - `channels_last`: images are [B, h, w, 3] also with "network" and "float".
    - `portable`: results are float32 arrays of one size, padded with zeros; anchors are in the metadata.
    """

    kind: str
    input: str
    outputs: str
    resize: str
    input_size: tuple[int, int] | None
    network_size: tuple[int, int] | None
    batch: int | None
    candidates: int
    channels_last: bool = False
    portable: bool = False

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Interface":
        """The inverse of `asdict`, also after JSON has turned tuples into lists.

        Raises:
            TypeError, AttributeError: it has other keys.
            ValueError: a value is none that `make_interface` gives.
        """
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        found = Interface(**values)
        for name, right in found._checks().items():
            if not right:
                raise ValueError(f"interface.{name} is {values[name]!r:.80}")
        return found

    def _checks(self) -> dict[str, bool]:
        """Whether each value is one that it can have."""
        photo = self.input == "photo"
        return {
            "kind": self.kind in list(RAW_NAMES),
            "input": self.input in INPUTS,
            "outputs": self.outputs in ("final", "raw") or (self.outputs == "mediapipe" and self.kind in OUTPUTS),
            "resize": self.resize in (("stretch", "none") if photo else RESIZES),
            "input_size": _is_size(self.input_size, optional=photo),
            "network_size": _is_size(self.network_size, optional=photo),
            "batch": _is_count(self.batch, most=1) if photo else self.batch is None or _is_count(self.batch),
            "candidates": _is_count(self.candidates),
            "channels_last": isinstance(self.channels_last, bool),
            "portable": isinstance(self.portable, bool),
        }

    @property
    def name(self) -> str:
        """The input's name in the file."""
        return "photo" if self.input == "photo" else "images"

    @property
    def dtype(self) -> str:
        """The input's: uint8 from 0 to 255, or float32 from 0 to 1."""
        return "float32" if self.input == "float" else "uint8"

    @property
    def shape(self) -> list[int | str]:
        """The input's shape; a name stands for a dynamic axis."""
        height, width = self.input_size or ("height", "width")
        batch = "batch" if self.batch is None else self.batch
        return [batch, height, width, 3] if self.is_channels_last else [batch, 3, height, width]

    @property
    def is_channels_last(self) -> bool:
        """Whether the input is [B, h, w, 3]."""
        return self.input == "photo" or self.channels_last

    @property
    def is_padded(self) -> bool:
        """Whether detections come in arrays of one size, with their number in `counts`."""
        return self.input != "photo" or self.portable

    @property
    def raw_names(self) -> tuple[str, ...]:
        """The names of the outputs with "raw" and "mediapipe"."""
        if self.outputs == "mediapipe":
            return OUTPUTS[self.kind]
        names = RAW_NAMES[self.kind]
        return (*names, "anchors") if self.kind == "detection" and not self.portable else names

    @property
    def resizes(self) -> bool:
        """Whether the file itself resizes its input."""
        return self.input == "photo" and self.resize == "stretch"


def _is_count(value: Any, most: int = _MOST) -> bool:
    return type(value) is int and 0 < value <= most


def _is_size(value: Any, *, optional: bool) -> bool:
    if value is None:
        return optional
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_count, value))


def make_interface(
    run: LoadedRun,
    *,
    format: str = "onnx",
    input: str | None = None,
    outputs: str = "final",
    input_size: Sequence[int] | None = None,
    batch: int | str = 1,
    candidates: int | None = None,
) -> Interface:
    """The validated interface of a run's file; None stands for the format's default.

    Raises:
        ValueError: a value is not one of the choices, or the run's resize cannot be exported.
    """
    portable, channels_last = FORMATS[format].portable, FORMATS[format].channels_last
    input = input or ("network" if portable else "photo")
    candidates = (256 if portable else 2048) if candidates is None else candidates
    for key, value, choices in (("input", input, INPUTS), ("outputs", outputs, FORMATS[format].outputs)):
        if value not in choices:
            others = f" with format={format}" if value == "mediapipe" else ""
            raise ValueError(f"{key}={value}: expected {', '.join(choices[:-1])} or {choices[-1]}{others}")
    if outputs == "mediapipe":
        _check_mediapipe(run, input, batch)
    if batch != "dynamic" and (isinstance(batch, str) or batch < 1):
        raise ValueError(f"batch={batch}: expected a batch size, or dynamic")
    if input == "photo" and batch != 1:
        raise ValueError(f"batch={batch}: input=photo takes one photograph at a time; for batches set input=network")
    if portable and (batch == "dynamic" or (batch != 1 and outputs == "final" and run.task.kind == "detection")):
        raise ValueError(
            f"batch={batch}: format={format} takes a fixed number of images, and finds boxes in one at a time"
        )
    if FORMATS[format].system and input != "float" and batch != 1:
        raise ValueError(f"batch={batch}: format={format} takes one image at a time; for batches set input=float")
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: expected 1 or more")
    size = _size("input_size", input_size)
    resize, eval_size = run.config.data.resize, _size("data.eval_size", run.config.data.eval_size)
    if input != "photo":
        if (size := size or eval_size) is None:
            raise ValueError(f"the run evaluates whole images of any size: set input_size=[h,w] for input={input}")
        network_size = size
    elif resize not in ("stretch", "none"):
        raise ValueError(f"data.resize={resize} cannot be exported: resize photographs yourself and set input=network")
    else:
        network_size = eval_size if resize == "stretch" else size
    if portable and size is None and input == "photo":
        raise ValueError(f"format={format} input=photo needs the size of the photographs: set input_size=[h,w]")
    if network_size is None and run.task.kind == "detection":
        raise ValueError("a detector's anchors are made for one size: set input_size=[h,w] to the photographs' size")
    return Interface(
        kind=run.task.kind, input=input, outputs=outputs, resize=resize, input_size=size, network_size=network_size,
        batch=None if batch == "dynamic" else int(batch), candidates=candidates, channels_last=channels_last,
        portable=portable,
    )  # fmt: skip


def _check_mediapipe(run: LoadedRun, input: str, batch: int | str) -> None:
    if run.task.kind not in OUTPUTS:
        raise ValueError(f"outputs=mediapipe: expected a run of {' or '.join(OUTPUTS)}, not {run.task.kind}")
    if input == "photo" or batch != 1:
        raise ValueError(
            f"outputs=mediapipe: MediaPipe resizes photographs by itself and gives the network one at a time: expected "
            f"input=network or float and batch=1, not input={input} batch={batch}"
        )


def _size(key: str, value: Sequence[int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    if len(value) != 2 or min(value) < 1:
        raise ValueError(f"{key}={list(value)}: expected two positive numbers, [h,w]")
    return int(value[0]), int(value[1])


class RawNetwork(nn.Module):
    """A network that returns only tensors, in the order of RAW_NAMES."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        super().__init__()
        self.model = model
        self.names = RAW_NAMES[kind]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs for `images`, float32 [B, 3, h, w] in 0..255."""
        outputs = self.model(images)
        return tuple(outputs[name] for name in self.names)


@dataclass(frozen=True)
class Padding:
    """How a segmentation network pads: with zeros, until a side is a multiple of `divisor` plus `remainder`."""

    divisor: int
    remainder: int

    @staticmethod
    def from_json(data: Any) -> "Padding":
        """The inverse of `asdict`; a TypeError or ValueError if it is not that."""
        found = Padding(**data)
        if not (_is_count(found.divisor) and type(found.remainder) is int and 0 <= found.remainder < 2):
            raise ValueError(f"padding is {data!r:.80}")
        return found

    @staticmethod
    def of(model: Any) -> "Padding":
        if hasattr(model, "pad_input"):
            return Padding(model.output_stride, 1) if model.pad_input else Padding(1, 0)
        return Padding(model.stride, 0)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (side + (self.remainder - side) % self.divisor for side in size)
        return height, width


def example_size(interface: Interface) -> tuple[int, int]:
    """The (h, w) used to trace the network."""
    return interface.network_size or (ANY * 8, ANY * 9)


@torch.inference_mode()
def example_outputs(run: LoadedRun, interface: Interface) -> dict[str, Tensor]:
    """The network's outputs for one image of the size used to trace it."""
    device = next(run.task.model.parameters()).device
    return run.task.model(torch.zeros((1, 3, *example_size(interface)), device=device))
