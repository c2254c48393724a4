"""An export in eight bits, quantized with training images or in training: judged on the validation split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...conf.schema import ExportConfig
from ...datasets.annotations.sample import evenly
from ...words import counted
from ..predicting.exported import ExportedPredictor, evaluate_file
from ..predicting.formats import FORMATS, Format
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun, evaluate_run
from ..system.console import log
from .calibration import calibrate, read_split
from .writers import Writer

_SOME = 8  # images of which the sizes are looked at
_UNJUDGED = "max_drop=null, which writes the file without an evaluation"


@dataclass(frozen=True)
class Cost:
    """What an int8 file costs and saves, beside the float32 file or the network that was trained in eight bits."""

    metric: str
    images: int
    reference: str  # float32 or pytorch
    before: float
    int8: float
    sizes: dict[str, int]  # bytes; those of a float32 file come first

    def __str__(self) -> str:
        judged = f"{self.metric} on {counted(self.images, 'validation image')}"
        where = {"float32": "in fp32", "pytorch": "in PyTorch"}[self.reference]
        sizes = " and ".join(f"{count / 1e6:.2f} MB" for count in self.sizes.values())
        return f"{judged}: {self.before:.4f} {where}, {self.int8:.4f} quantized; size {sizes}"

    @property
    def loss(self) -> float:
        return self.before - self.int8

    def to_json(self) -> dict[str, Any]:
        sizes = {f"{name}_bytes": count for name, count in self.sizes.items()}
        return {"metric": self.metric, "images": self.images, self.reference: self.before, "int8": self.int8, **sizes}


class Int8:
    """Quantizes one network, unless training did it, and measures what that costs."""

    def __init__(self, run: LoadedRun, interface: Interface, settings: ExportConfig) -> None:
        """Read the images, so that what is missing is reported before the work.

        Raises:
            ValueError: there are no images to calibrate or to judge with; names the key.
        """
        self._precision, self._max_drop = settings.precision, settings.max_drop
        self._source = None if self._max_drop is None else read_split(run, "val", _UNJUDGED)
        self._check_sizes(interface)
        # Ranges of values matter only where they are quantized, too, and training may have learned them.
        calibrated = self._precision == "int8" and not run.quantized
        self._calibration = calibrate(run, interface, settings.calibration) if calibrated else None

    def _check_sizes(self, interface: Interface) -> None:
        """Raise ValueError if some of the validation images do not have the size that the file takes."""
        if self._source is None or interface.input != "photo" or interface.input_size is None:
            return
        for i in evenly(len(self._source), _SOME):
            height, width = self._source.read(i).image.shape[:2]
            if (height, width) != interface.input_size:
                raise ValueError(
                    f"int8 is judged by the validation split, but one of its images is {[height, width]} (h, w), not "
                    f"input_size={[*interface.input_size]}. Remedy: input=network, or {_UNJUDGED}"
                )

    def quantized(self, writer: Writer) -> Writer:
        """A writer of the network in int8."""
        if self._calibration is None:
            return writer
        log.info("quantizing with %s of %s", counted(self._calibration.images, "image"), self._calibration.source)
        return writer.quantized(self._calibration.batches)

    def judged(self, reference: ExportedPredictor | LoadedRun, int8: ExportedPredictor) -> dict[str, Any]:
        """What model.json says about the quantization.

        Args:
            reference: the float32 file, or the run that was trained in eight bits.

        Raises:
            ValueError: the metric falls by more than `max_drop`.
        """
        calibration = self._calibration and self._calibration.to_json()
        entry: dict[str, Any] = {"calibration": calibration, "max_drop": self._max_drop}
        if self._source is None or self._max_drop is None:
            return entry
        cost = _measured(reference, int8, self._source)
        log.info("%s", cost)
        if not cost.loss <= self._max_drop:
            raise ValueError(
                f"{self._precision} loses {cost.loss:.4f} of {cost.metric}, more than max_drop={self._max_drop:g}; "
                f"nothing was written. {self._remedies(reference)}allow it with max_drop="
            )
        return entry | cost.to_json()

    def _remedies(self, model: ExportedPredictor | LoadedRun) -> str:
        if isinstance(model, LoadedRun):
            return "The file's runtime rounds other values than training did: try the other format, or "
        others = [
            f"precision={name}, " for name in ("int8_weights", "bf16", "fp16") if name in _format(model).precisions
        ]
        if self._precision != "int8":
            return f"Try {''.join(others[1:])}or "
        images = "more images (calibration=300), photographs like those in use (calibration=FOLDER), "
        training = "training in eight bits (train quantize=openvino), " if _format(model).trained_int8 else ""
        return f"Try {images}{training}{''.join(others[:1])}or "


def _format(model: ExportedPredictor) -> Format:
    return FORMATS[model.file.about["format"]]


def _measured(reference: ExportedPredictor | LoadedRun, int8: ExportedPredictor, source: Any) -> Cost:
    metric, sizes = int8.task.metric.primary, {"int8": _bytes(int8.file.path)}
    if isinstance(reference, LoadedRun):
        name, before = "pytorch", evaluate_run(reference, source, batch_size=1, workers=0)[metric]
    else:
        name, before = "float32", evaluate_file(reference, source, batch_size=1, workers=0)[metric]
        sizes = {name: _bytes(reference.file.path), **sizes}
    after = evaluate_file(int8, source, batch_size=1, workers=0)[metric]
    if before is None or after is None:
        raise ValueError(f"{metric} is absent: the validation split has nothing to compare with. Remedy: {_UNJUDGED}")
    return Cost(metric, len(source), name, before, after, sizes)


def _bytes(path: Path) -> int:
    """Of a file and those of the same name, which belong to it: an .xml has its numbers in a .bin."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
