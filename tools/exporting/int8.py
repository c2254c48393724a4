"""An export in eight bits: quantized with training images, judged by the metric on the validation split."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...conf.schema import ExportConfig
from ...datasets.annotations.sample import evenly
from ...words import counted
from ..predicting.exported import ExportedPredictor, evaluate_file
from ..predicting.formats import FORMATS
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun
from ..system.console import log
from .calibration import calibrate, read_split
from .writers import Writer

_SOME = 8  # images of which the sizes are looked at
_UNJUDGED = "max_drop=null, which writes the file without an evaluation"


@dataclass(frozen=True)
class Cost:
    """What quantization costs and saves."""

    metric: str
    images: int
    float32: float
    int8: float
    float32_bytes: int
    int8_bytes: int

    def __str__(self) -> str:
        before, after = (f"{count / 1e6:.2f} MB" for count in (self.float32_bytes, self.int8_bytes))
        judged = f"{self.metric} on {counted(self.images, 'validation image')}"
        return f"{judged}: {self.float32:.4f} in fp32, {self.int8:.4f} quantized; size {before} and {after}"


class Int8:
    """Quantizes one network and measures what that costs."""

    def __init__(self, run: LoadedRun, interface: Interface, settings: ExportConfig) -> None:
        """Read the images, so that what is missing is reported before the work.

        Raises:
            ValueError: there are no images to calibrate or to judge with; names the key.
        """
        self._precision, self._max_drop = settings.precision, settings.max_drop
        self._source = None if self._max_drop is None else read_split(run, "val", _UNJUDGED)
        self._check_sizes(interface)
        # Ranges of values matter only where they are quantized, too.
        self._calibration = calibrate(run, interface, settings.calibration) if self._precision == "int8" else None

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

    def judged(self, float32: ExportedPredictor, int8: ExportedPredictor) -> dict[str, Any]:
        """What model.json says about the quantization.

        Raises:
            ValueError: the metric falls by more than `max_drop`.
        """
        calibration = self._calibration and self._calibration.to_json()
        entry: dict[str, Any] = {"calibration": calibration, "max_drop": self._max_drop}
        if self._source is None or self._max_drop is None:
            return entry
        cost = _measured(float32, int8, self._source)
        log.info("%s", cost)
        if not cost.float32 - cost.int8 <= self._max_drop:
            raise ValueError(
                f"{self._precision} loses {cost.float32 - cost.int8:.4f} of {cost.metric}, more than "
                f"max_drop={self._max_drop:g}; nothing was written. Try {self._remedies(float32)}or allow it with "
                "max_drop="
            )
        return entry | asdict(cost)

    def _remedies(self, model: ExportedPredictor) -> str:
        others = [f"precision={name}, " for name in ("int8_weights", "bf16", "fp16") if name in _choices(model)]
        if self._precision != "int8":
            return "".join(others[1:])
        images = "more images (calibration=300), photographs like those in use (calibration=FOLDER), "
        return images + "".join(others[:1])


def _choices(model: ExportedPredictor) -> tuple[str, ...]:
    return FORMATS[model.file.about["format"]].precisions


def _measured(float32: ExportedPredictor, int8: ExportedPredictor, source: Any) -> Cost:
    metric, models = float32.task.metric.primary, (float32, int8)
    before, after = (evaluate_file(model, source, batch_size=1, workers=0)[metric] for model in models)
    if before is None or after is None:
        raise ValueError(f"{metric} is absent: the validation split has nothing to compare with. Remedy: {_UNJUDGED}")
    return Cost(metric, len(source), before, after, *(_bytes(model.file.path) for model in models))


def _bytes(path: Path) -> int:
    """Of a file and those of the same name, which belong to it: an .xml has its numbers in a .bin."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
