"""`pocketvision.load`: a run, a published network or an exported file as a predictor."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..runs.loaded import check_optimize, load_published, load_run, published_config
from .exported import is_exported, load_file
from .predictor import Predictor


def load(
    run: str | Path,
    *,
    checkpoint: str = "best",
    weights: str | Path | None = None,
    source: str = "pocketvision",
    overrides: Sequence[str] = (),
    device: str = "cpu",
    optimize: bool = False,
    precision: str = "fp32",
    compile: bool = False,
) -> Predictor:
    """The model of a training run (folder or checkpoint file), a published network, or an exported file.

    Args:
        weights: pretrained weights, a file in the format of `source` or a name; `run` is then a published network
            (`conf/public/`).
        overrides: keys of that network's configuration, e.g. `["backbone=mobilenet_v3_small"]`.
        optimize: fold batch norms into convolutions: same outputs, faster.
        precision: "bf16" with `optimize`: even faster if the processor supports it.
        compile: torch.compile, with `optimize`; the first image of a size takes seconds.

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: it cannot be read, does not fit, or there is no such published network; `precision` or `compile`
            is set without `optimize`, or any of the three for an exported file.
    """
    run = os.path.expanduser(run)
    exported = is_exported(run)
    check_optimize(optimize, precision, compile, file=run if exported else None)
    idle = {"source": source != "pocketvision", "overrides": bool(overrides)}
    why = "only published networks, with weights=, accept them"
    if exported:
        idle = {"weights": weights is not None, **idle, "checkpoint": checkpoint != "best", "device": device != "cpu"}
        why = "an exported file cannot be changed"
    names = [name for name, is_given in idle.items() if is_given]
    if names and (exported or weights is None):
        raise ValueError(f"load({str(run)!r}): drop {', '.join(names)}; {why}")
    if weights is not None and checkpoint != "best":
        raise ValueError(f"load({str(run)!r}, checkpoint={checkpoint!r}): a published network has no checkpoints of a "
                         "run: drop checkpoint, or drop weights")  # fmt: skip
    if exported:
        return load_file(run)
    if weights is None:
        loaded = load_run(run, which=checkpoint, device=device)
    else:
        config = published_config(str(run), overrides)
        config.weights, config.weights_source = str(weights), source
        loaded = load_published(config, device=device)
    return Predictor(loaded.optimized(precision=precision, compile=compile) if optimize else loaded)
