"""An export in eight bits: quantized with training images, judged by the metric on the validation split."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...words import counted
from ..predicting.exported import ExportedPredictor, evaluate_file
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun
from ..system.console import log
from .calibration import calibrate, read_split
from .quantize import quantized

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
        return f"{judged}: {self.float32:.4f} in fp32, {self.int8:.4f} in int8; size {before} and {after}"


class Int8:
    """Quantizes one network and measures what that costs."""

    def __init__(self, run: LoadedRun, interface: Interface, calibration: int | str, max_drop: float | None) -> None:
        """Read the images, so that what is missing is reported before the work.

        Args:
            calibration: the number of images of the training split, or a folder of photographs.
            max_drop: how much of the metric may be lost; None: it is not measured.

        Raises:
            ValueError: there are no images to calibrate or to judge with; names the key.
        """
        self._max_drop = max_drop
        self._source = None if max_drop is None else read_split(run, "val", _UNJUDGED)
        self._calibration = calibrate(run, interface, calibration)

    def quantized(self, network: Any, format: str) -> Any:
        """The network's graph in int8; `network` stays as it is."""
        log.info("quantizing with %s of %s", counted(self._calibration.images, "image"), self._calibration.source)
        return quantized(network, self._calibration.batches, format=format)

    def judged(self, float32: ExportedPredictor, int8: ExportedPredictor) -> dict[str, Any]:
        """What model.json says about the quantization.

        Raises:
            ValueError: the metric falls by more than `max_drop`.
        """
        entry: dict[str, Any] = {"calibration": self._calibration.to_json(), "max_drop": self._max_drop}
        if self._source is None or self._max_drop is None:
            return entry
        cost = _measured(float32, int8, self._source)
        log.info("%s", cost)
        if not cost.float32 - cost.int8 <= self._max_drop:
            bf16 = ", precision=bf16" if float32.file.path.suffix == ".xml" else ""
            raise ValueError(
                f"int8 loses {cost.float32 - cost.int8:.4f} of {cost.metric}, more than max_drop={self._max_drop:g}; "
                f"nothing was written. Try more images (calibration=300), photographs like those in use "
                f"(calibration=FOLDER){bf16}, or allow it with max_drop="
            )
        return entry | asdict(cost)


def _measured(float32: ExportedPredictor, int8: ExportedPredictor, source: Any) -> Cost:
    metric, models = float32.task.metric.primary, (float32, int8)
    before, after = (evaluate_file(model, source, batch_size=1, workers=0)[metric] for model in models)
    if before is None or after is None:
        raise ValueError(f"{metric} is absent: the validation split has nothing to compare with. Remedy: {_UNJUDGED}")
    return Cost(metric, len(source), before, after, *(_bytes(model.file.path) for model in models))


def _bytes(path: Path) -> int:
    """Of a file and those of the same name, which belong to it: an .xml has its numbers in a .bin."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
