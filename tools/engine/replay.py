"""Non-finite steps: saved when they happen, recomputed afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .run import Run
from .state import load_checkpoint, save_checkpoint, set_generator_state
from .step import autocast
from .window import NonfiniteError


def replay_path(folder: Path) -> Path:
    return folder / "checkpoints" / "replay.pt"


def stop_for_replay(run: Run, bad: NonfiniteError) -> str:
    """Save the inputs of the bad step, from every rank; returns the message for the user."""
    parts = run.ranks.gather((bad.samples, bad.random))
    path = replay_path(run.folder)
    if run.ranks.is_main:
        save_checkpoint(path, {
            **run.header,
            "model": run.model.state_dict(),
            "ema": None,
            "progress": asdict(replace(run.progress, step=bad.step - 1)),
            "samples": [samples for samples, _ in parts],
            "random": [random for _, random in parts],
            "losses": bad.losses,
            "grad_norm": bad.grad_norm,
        })  # fmt: skip
    names = [name for samples, _ in parts for micro_batch in samples for _, _, name in micro_batch]
    losses = ", ".join(f"{name} {value:.4g}" for name, value in bad.losses.items())
    return (
        f"step {bad.step} produced non-finite values: {losses}, gradient norm {bad.grad_norm:.4g}. It did not change "
        f"the weights. Its images: {', '.join(names[:8])}{f', and {len(names) - 8} more' if len(names) > 8 else ''}. "
        f"To recompute it, run the same command with mode=replay (the step is saved in {path}). Remedies: a lower "
        "optimizer.lr, longer schedule.warmup_epochs, clip_grad_norm, precision=fp32; or on_nonfinite=skip, which "
        "skips such steps"
    )


def replay(run: Run, dataset: Any, collate: Callable[[list[Any]], Any]) -> Iterator[tuple[Any, list[str]]]:
    """Each micro-batch of the saved step, and report lines about it.

    `dataset[epoch, index]` returns an item, `collate` makes a batch of items.

    Raises:
        FileNotFoundError: no step of this run was saved.
    """
    path = replay_path(run.folder)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: no non-finite step stopped this run")
    checkpoint = load_checkpoint(path)
    run.model.load_state_dict(checkpoint["model"])
    run.training_mode()
    yield None, [f"step {checkpoint['progress']['step'] + 1} as saved: {checkpoint['losses']}, "
                 f"gradient norm {checkpoint['grad_norm']}"]  # fmt: skip
    for rank, (samples, random) in enumerate(zip(checkpoint["samples"], checkpoint["random"], strict=True)):
        set_generator_state(random)
        for number, names in enumerate(samples):
            batch = collate([dataset[epoch, index] for epoch, index, _ in names]).to(run.ranks.device)
            yield batch, [f"rank {rank}, micro-batch {number}:", *_look(run, batch, [name for _, _, name in names])]


def _look(run: Run, batch: Any, names: list[str]) -> list[str]:
    """Repeat forward and backward and report where values become non-finite."""
    with _first_nonfinite(run.model) as first, autocast(run.ranks.device, run.config.precision):
        outputs = run.model(batch.images)
    sums, _ = run.task.criterion.sums(outputs, batch.targets)
    lines = [f"  first non-finite output: {first[0]}" if first else "  all outputs of the network are finite"]
    for i, name in enumerate(names):
        parts, count = run.task.criterion.sums(_of_image(outputs, i, len(names)), batch.targets[i : i + 1])
        losses = "  ".join(f"{key} {value.item() / max(1.0, float(count)):.4g}" for key, value in parts.items())
        lines.append(f"  {name}  {losses}")
    run.model.zero_grad(set_to_none=True)
    torch.stack(list(sums.values())).sum().backward()
    bad = [name for name, p in run.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return [*lines, f"  non-finite gradients: {', '.join(bad[:6]) or 'none'}"
            f"{f', and {len(bad) - 6} more' if len(bad) > 6 else ''}"]  # fmt: skip


@contextmanager
def _first_nonfinite(model: nn.Module) -> Iterator[list[str]]:
    """While active, adds the name of the first module with a non-finite output to a list."""
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _of_image(outputs: dict[str, Any], i: int, count: int) -> dict[str, Any]:
    """Image i's part of the outputs; values shared by all images (anchors, sizes) are kept."""
    return {
        key: value[i : i + 1] if isinstance(value, Tensor) and len(value) == count else value
        for key, value in outputs.items()
    }
