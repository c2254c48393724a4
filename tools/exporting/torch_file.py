"""torch.export: the whole pipeline as one program that loads without this package."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...detection.exported import ExportedDetector
from ...segmentation.exported import ExportedSegmenter
from ..predicting.interface import Interface, example_size
from ..runs.loaded import LoadedRun
from ..system.console import quiet


class WholeCall(nn.Module):
    """From the input to the outputs, by name."""

    def __init__(
        self,
        run: LoadedRun,
        interface: Interface,
        *,
        network: nn.Module | None = None,
        detector: type[ExportedDetector] = ExportedDetector,
    ) -> None:
        """`network` takes the place of the run's own; `detector` is the form of a detector's post-processing."""
        super().__init__()
        self.interface = interface
        model, post = network or run.task.model, run.task.postprocess
        self.body: nn.Module = model
        if interface.outputs == "final" and interface.kind == "detection":
            padded = interface.is_padded
            self.body = detector(model, post, candidates=interface.candidates, padded=padded)  # pyright: ignore
        elif interface.outputs == "final" and interface.kind == "segmentation":
            self.body = ExportedSegmenter(model, post)  # pyright: ignore

    def forward(self, photo: Tensor) -> dict[str, Tensor]:
        """The outputs for RGB of the interface's shape and dtype: uint8, or float32 from 0 to 1."""
        interface = self.interface
        images, size = photo * 255 if interface.dtype == "float32" else photo.float(), None
        if interface.is_channels_last:
            images = images.permute(0, 3, 1, 2)
        if interface.resizes:
            size = (photo.shape[1], photo.shape[2])
            images = F.interpolate(images, interface.network_size, mode="bilinear", align_corners=False)
        if interface.outputs != "final":
            found = self.body(images)
            return {name: found[name] for name in interface.raw_names}
        if interface.kind == "detection":
            return self._as_written(self.body(images, *self._pixels(images, size)))
        if interface.kind == "segmentation":
            return {"label_map": self.body(images, size)}
        logits = self.body(images)["logits"]
        if interface.portable:  # no converter knows stable sorting
            scores, labels = logits.topk(logits.shape[1], dim=1)
        else:
            scores, labels = logits.sort(dim=1, descending=True, stable=True)
        return self._as_written({"labels": labels, "scores": scores.softmax(1)})

    def _as_written(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.float() for name, value in found.items()} if self.interface.portable else found

    @staticmethod
    def _pixels(images: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, Tensor | None]:
        height, width = images.shape[-2:]
        seen = torch.tensor([width, height, width, height], dtype=torch.float32)
        if size is None:
            return seen, None
        sides = [torch.scalar_tensor(side, dtype=torch.float32) for side in (size[1], size[0])]
        limits = torch.stack(sides * 2)
        return limits, limits / seen


def build_program(run: LoadedRun, interface: Interface) -> Any:
    """Export the whole pipeline as a program."""
    height, width = interface.input_size or (side + 1 for side in example_size(interface))
    shape = (1, height, width, 3) if interface.input == "photo" else (interface.batch or 2, 3, height, width)
    axes: dict[int, Any] = {0: torch.export.Dim("batch")} if interface.batch is None else {}
    if interface.input_size is None:
        axes |= {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    call = copy.deepcopy(WholeCall(run, interface)).eval().requires_grad_(False)
    call.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    example = torch.zeros(shape, dtype=getattr(torch, interface.dtype))
    with quiet(), torch.no_grad():
        return torch.export.export(
            call,
            (example,),
            dynamic_shapes=(axes,) if axes else None,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
