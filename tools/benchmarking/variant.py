"""One way of computing the same thing: stages that hand on what they made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Stage = Callable[[Any], Any]


@dataclass(frozen=True)
class Spec:
    """Which way it is; plain, so that a process of its own can build it again.

    `side`: "torchvision", "pocketvision" or "file". `channels_last`: torchvision's input lies so in
    memory, which its documented way does not bring about.
    """

    side: str
    optimize: bool = False
    compile: bool = False
    precision: str = "fp32"
    file: str | None = None
    channels_last: bool = False
    measure_memory: bool = True

    @property
    def name(self) -> str:
        if self.side == "torchvision":
            return "torchvision channels_last" if self.channels_last else "torchvision"
        bf16 = ["bf16"] if self.precision == "bf16" else []
        if self.file is not None:
            ending = self.file.rpartition(".")[2].lower()
            return " ".join([{"onnx": "ONNX Runtime", "xml": "OpenVINO"}.get(ending, "torch.export"), *bf16])
        if not (self.optimize or self.compile or bf16):
            return "as loaded"
        return " + ".join([*(["optimize"] * self.optimize), *(["compile"] * self.compile), *bf16])


@dataclass
class Variant:
    """Stages by name, in order; the first takes `start`.

    `whole` is the one call in place of all stages, where somebody else's code has one. `results` turns what comes out
    at the end into what all variants are compared by; that is not timed. `inference` is false for a training step.
    """

    spec: Spec
    stages: Mapping[str, Stage]
    start: Any
    results: Callable[[Any], Any]
    whole: Stage | None = None
    inference: bool = True

    @property
    def name(self) -> str:
        return self.spec.name

    def call(self) -> Any:
        """Everything once, outside of any timing."""
        value = self.start
        for stage in (self.whole,) if self.whole else self.stages.values():
            value = stage(value)
        return value
