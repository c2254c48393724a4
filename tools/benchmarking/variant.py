"""One variant of the same computation: a sequence of stages, each passing its result on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Stage = Callable[[Any], Any]
RUNTIMES = {
    "onnx": "ONNX Runtime", "xml": "OpenVINO", "pt2": "torch.export", "tflite": "LiteRT", "pte": "ExecuTorch",
}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """The description of a variant, in plain values, so that another process can rebuild it.

    `side`: "torchvision", "pocketvision" or "file". `channels_last`: torchvision's input has this memory
    format, which its documented usage does not produce. `raw`: the file ends with the network's outputs.
    """

    side: str
    optimize: bool = False
    compile: bool = False
    precision: str = "fp32"
    file: str | None = None
    raw: bool = False
    channels_last: bool = False
    measure_memory: bool = True

    @property
    def name(self) -> str:
        if self.side == "torchvision":
            return "torchvision channels_last" if self.channels_last else "torchvision"
        other = [self.precision] if self.precision != "fp32" else []
        if self.file is not None:
            ending = self.file.rpartition(".")[2].lower()
            return " ".join([RUNTIMES.get(ending, ending), *other, *["network"] * self.raw])
        if not (self.optimize or self.compile or other):
            return "as loaded"
        return " + ".join([*(["optimize"] * self.optimize), *(["compile"] * self.compile), *other])


@dataclass
class Variant:
    """Stages by name, in order; the first takes `start`.

    `whole` is a single call instead of all stages, if a third-party model has one. `results` converts the final output
    into the form in which variants are compared; that is not timed.
    """

    spec: Spec
    kind: str  # the task's, or "training" for a training step
    stages: Mapping[str, Stage]
    start: Any
    results: Callable[[Any], Any]
    whole: Stage | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    def call(self) -> Any:
        """Run everything once, untimed."""
        value = self.start
        for stage in (self.whole,) if self.whole else self.stages.values():
            value = stage(value)
        return value
