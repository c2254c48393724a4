"""Non-finite steps: saved when they happen, recomputed afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .run import Run
from .state import generator_state, load_checkpoint, load_state, save_checkpoint, set_generator_state
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
    saved = _read(path, images=len(dataset))
    load_state(run.model, saved["model"], path)
    run.training_mode()
    yield None, [f"step {saved['progress']['step'] + 1} as saved: {saved['losses']}, "
                 f"gradient norm {saved['grad_norm']}"]  # fmt: skip
    for rank, (samples, random) in enumerate(zip(saved["samples"], saved["random"], strict=True)):
        set_generator_state(random)
        for number, names in enumerate(samples):
            batch = collate([dataset[epoch, index] for epoch, index, _ in names]).to(run.ranks.device)
            yield batch, [f"rank {rank}, micro-batch {number}:", *_look(run, batch, [name for _, _, name in names])]


def _read(path: Path, *, images: int) -> dict[str, Any]:
    """The saved step; a ValueError if it is not as `stop_for_replay` writes it."""
    saved, before = load_checkpoint(path), generator_state()
    try:
        if not _is_list(saved["samples"], depth=3):  # a tensor may have any number of rows
            raise TypeError("samples")
        rows = [row for samples in saved["samples"] for names in samples for row in names]
        right = (
            type(epoch) is type(index) is int and 0 <= index < images and isinstance(name, str)
            for epoch, index, name in rows
        )
        if not all(right) or not all(names for samples in saved["samples"] for names in samples):
            raise ValueError("samples")
        if len(saved["samples"]) != len(saved["random"]):
            raise ValueError("random")
        for random in saved["random"]:
            set_generator_state(random)
        if saved["progress"]["step"] + 1 < 1 or not {"model", "losses", "grad_norm"} <= saved.keys():
            raise ValueError("progress")
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{path} is not a step to recompute ({' '.join(repr(error).split()):.200}): damaged? Remove it"
        ) from error
    set_generator_state(before)
    return saved


def _is_list(value: Any, *, depth: int) -> bool:
    """Whether it is a list of lists of lists and so on."""
    if not depth:
        return True
    return isinstance(value, list | tuple) and all(_is_list(item, depth=depth - 1) for item in value)


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
