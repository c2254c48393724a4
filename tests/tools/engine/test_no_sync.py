"""The host never waits for the device in a training step: nothing in it looks at the value of a tensor.

On a GPU `.item()`, a boolean index or a copy to the host stalls the loop until all that was queued is done. No GPU is
needed to see them: on the CPU a dispatch mode refuses the operators that look, and names the line; on the meta device,
where there is nothing to look at, it also tells copies between host and device; and the profiler lists what operators
call inside, where torch takes another way while a mode is watching.
"""

import functools
import linecache
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import TrainConfig
from pocketvision.datasets.loading.batches import Batch
from pocketvision.detection.criterion import FocalCriterion
from pocketvision.segmentation.criterion import PixelCriterion
from pocketvision.tools.config.build import build_task, compose, data_tells_classes, optimizer_factory
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.distributed import Ranks
from pocketvision.tools.engine.run import make_run
from pocketvision.tools.engine.step import train_step
from pocketvision.tools.engine.task import Task
from torch import Tensor, nn
from torch.autograd.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[3]
SIZE = 64
IGNORED = 255
# The operators whose result, or its shape, depends on values that the host then has to know.
LOOKS = {
    *("_local_scalar_dense", "is_nonzero", "equal", "allclose", "bincount", "nms"),
    *("nonzero", "nonzero_numpy", "argwhere", "masked_select"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class SyncError(AssertionError):
    """An operator that would stall the host."""


class NoSync(TorchDispatchMode):
    """Raises SyncError, which names the operator and the line of ours that called it. `seen`: all operators' names.

    Gradients of tensors on the CPU and the meta device are computed on the calling thread, so it sees them too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.seen.add(name)
        if name in LOOKS or (name in INDEXING and by_mask(args[1])) or unsized_repeat(func, kwargs):
            raise SyncError(f"{func} looks at the values of a tensor: {line_of_ours(sys._getframe(1))}")
        if copies_and_waits(name, args, kwargs):
            raise SyncError(f"{func} copies between host and device and waits: {line_of_ours(sys._getframe(1))}")
        return func(*args, **kwargs)


def by_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def unsized_repeat(func: Any, kwargs: dict[str, Any]) -> bool:
    """`repeat_interleave` by a tensor of counts that has not been told their sum."""
    return func is torch.ops.aten.repeat_interleave.Tensor and kwargs.get("output_size") is None


def copies_and_waits(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """To the host always; to the device unless `non_blocking`. On the CPU everything is on one side."""
    if name == "_to_copy":
        source, device, patient = args[0].device, kwargs.get("device"), kwargs.get("non_blocking", False)
    elif name == "copy_":
        source, device = args[1].device, args[0].device
        patient = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    else:
        return False
    target = source if device is None else torch.device(device)
    return target.type != source.type and (target.type == "cpu" or not patient)


def is_ours(path: Path) -> bool:
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts  # .venv may lie in the repository


def line_of_ours(frame: Any) -> str:
    """The innermost line in this repository; while gradients are computed, the one that calls `backward`."""
    while frame and not is_ours(Path(frame.f_code.co_filename)):
        frame = frame.f_back
    if frame is None:
        return "called from nowhere in this repository"
    path, number = Path(frame.f_code.co_filename), frame.f_lineno
    return f"{path.relative_to(ROOT)}:{number}  {linecache.getline(str(path), number).strip()}"


# ---- a step ------------------------------------------------------------------------------------------------


def step(
    task: Task, settings: TrainConfig, make_optimizer: Any, batches: list[Batch], *, watch: TorchDispatchMode
) -> dict[str, float]:
    """One optimizer step on the CPU under `watch`; returns its losses. All that these tests know of the loop."""
    ranks = Ranks(0, 1, torch.device("cpu"))
    run = make_run(
        task, settings, ranks, folder=Path("unused"), header={}, make_optimizer=make_optimizer, epochs=1,
        steps_per_epoch=10,
    )  # fmt: skip
    run.training_mode()
    with watch:
        losses = train_step(run, run.model, batches).losses
    return {name: loss.item() for name, loss in losses.items()}


@functools.cache
def make_config(experiment: str, *overrides: str) -> Any:
    config = compose(
        f"experiment={experiment}", "backbone.width=0.35", "precision=bf16", "clip_grad_norm=1.0", "ema_decay=0.99",
        "++optimizer.fused=true", "accumulate=2", *overrides,
    )  # fmt: skip
    if data_tells_classes(config.data):
        config.data.num_classes = 3  # otherwise told by the data
    return config


def make_batch(kind: str) -> Batch:
    """Three images: something to learn in the first two (unequal in number, a crowd in one), nothing in the last."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    if kind == "segmentation":
        masks = torch.randint(0, 3, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        masks[0, :9] = masks[2] = IGNORED
        return Batch(images, [{"mask": mask} for mask in masks], [{}] * 3)
    boxes = torch.tensor([[5.0, 5, 40, 45], [30, 20, 60, 60], [2, 2, 9, 9]])
    targets = [
        {"boxes": boxes[:n], "labels": torch.tensor([1, 2, 3])[:n], "crowd_boxes": crowds}
        for n, crowds in ((1, torch.tensor([[0.0, 0, 64, 30]])), (3, torch.zeros(0, 4)), (0, torch.zeros(0, 4)))
    ]
    return Batch(images, targets, [{}] * 3)


CASES = [
    ("ssdlite_coco", ()),
    ("ssdlite_coco", ("model.criterion.box_loss=giou",)),
    ("ssdlite_coco_torchvision", ()),
    ("ssdlite_coco_torchvision", ("model.criterion.min_negatives=5", "+model.criterion.label_smoothing=0.1")),
    ("small_detection", ()),
    ("lraspp_cityscapes", ()),
    ("lraspp_torchvision", ()),
    ("lraspp_torchvision", ("model=raspp", "+model.criterion.recompute=false", "backbone.atrous=reference")),
    ("small_segmentation", ()),
    ("small_segmentation", ("model.criterion.class_weights=[1,2,0.5]",)),
    ("small_segmentation", ("model.criterion.ohem_threshold=0.7", "model.criterion.ohem_min_kept=100")),
    (
        "small_segmentation",
        (
            "model.criterion.ohem_threshold=0.7",
            "model.criterion.class_weights=[1,2,0.5]",
            "model.criterion.label_smoothing=0.1",
        ),
    ),
]
IDS = ["-".join((name, *(o.partition("=")[0].rpartition(".")[2] for o in overrides))) for name, overrides in CASES]


@pytest.mark.parametrize(("experiment", "overrides"), CASES, ids=IDS)
def test_a_step_never_waits(experiment: str, overrides: Sequence[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(PixelCriterion, "_refuse", lambda *_: None)  # a look that the CPU alone may take
    config = make_config(experiment, *overrides)
    settings, task = settings_of(config, TrainConfig), build_task(config)
    batch = make_batch(task.kind)
    look_at_no_value(task, settings, batch)
    look_inside_operators(task, batch)
    copy_nothing(task, batch)


def look_at_no_value(task: Task, settings: TrainConfig, batch: Batch) -> None:
    """The whole step, optimizer and moving average included."""
    mode = NoSync()
    losses = step(task, settings, optimizer_factory(settings), [batch] * 2, watch=mode)
    assert all(0 < loss < torch.inf for loss in losses.values())
    optimizer = "_fused_sgd_" if "SGD" in settings.optimizer._target_ else "_fused_adamw_"
    assert {"convolution", "convolution_backward", "linalg_vector_norm", optimizer, "lerp_"} <= mode.seen


def look_inside_operators(task: Task, batch: Batch) -> None:
    """Forward, loss and backward. Not the optimizer: the CPU's fused AdamW reads its step counter, CUDA's does not."""
    with profile() as record:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = task.model(batch.images)
        learn(task, outputs, batch)
    names = names_in(record)
    assert "convolution_backward" in names
    assert not names & LOOKS


def copy_nothing(task: Task, batch: Batch) -> None:
    """Forward, loss and backward, on a device that has no values."""
    assert isinstance(task.criterion, nn.Module)
    task.criterion.to("meta")
    network, batch = task.model.to("meta"), batch.to("meta")
    network(batch.images)  # anchors are copied to the device once for each size
    with NoSync() as mode:
        learn(task, network(batch.images), batch)
    assert "convolution_backward" in mode.seen


def learn(task: Task, outputs: Any, batch: Batch) -> None:
    sums, _ = task.criterion.sums(outputs, batch.targets)
    torch.stack(list(sums.values())).sum().backward()


def names_in(record: profile) -> set[str]:
    return {event.name.removeprefix("aten::") for event in record.function_events or ()}


# ---- the step is not quiet because the mode is deaf -----------------------------------------------------------


def assign_by_mask(x: Tensor) -> None:
    x[x > 0] = x.new_ones(1)


LOOKING: list[tuple[str, Callable[[Tensor], Any]]] = [
    ("_local_scalar_dense", lambda x: x.sum().item()),
    ("_local_scalar_dense", lambda x: 1 if x.sum() > 0 else 0),
    ("_local_scalar_dense", lambda x: float(x[0])),
    ("allclose", lambda x: torch.allclose(x, x)),
    ("equal", lambda x: torch.equal(x, x)),
    ("index.Tensor", lambda x: x[x > 0]),
    ("index.Tensor", lambda x: x[(x > 0).to(torch.uint8)]),
    ("index_put_", assign_by_mask),
    ("nonzero", lambda x: x.nonzero()),
    ("nonzero", lambda x: torch.where(x > 0)),
    ("nonzero", lambda x: torch.argwhere(x)),
    ("masked_select", lambda x: x.masked_select(x > 0)),
    ("unique", lambda x: x.unique()),
    ("unique", lambda x: x.unique(dim=0)),
    ("unique", lambda x: x.unique_consecutive()),
    ("bincount", lambda x: x.long().bincount()),
    ("repeat_interleave", lambda x: x.repeat_interleave(x.long())),
]


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
@pytest.mark.parametrize(("operator", "look"), LOOKING, ids=lambda value: value if isinstance(value, str) else "")
def test_looks_are_caught(operator: str, look: Callable[[Tensor], Any]) -> None:
    with (
        pytest.raises(SyncError, match=rf"aten\.\w*{operator}.* looks .*tests/tools/\w+/test_no_sync\.py:\d+ "),
        NoSync(),
    ):
        look(torch.arange(4.0))


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.new_empty(4, device="cpu").copy_(x),
        lambda x: torch.tensor([1.0, 2.0]).to(x.device),
        lambda x: x.new_empty(2).copy_(torch.ones(2)),
    ],
)
def test_copies_that_wait_are_caught(copy: Callable[[Tensor], Any]) -> None:
    with (
        pytest.raises(SyncError, match=r"copies .* waits: tests/tools/\w+/test_no_sync\.py:\d+  lambda x: "),
        NoSync(),
    ):
        copy(torch.empty(4, device="meta"))


def test_what_does_not_wait_is_allowed() -> None:
    with NoSync():
        x = torch.arange(4.0)
        _ = x[torch.tensor([0, 3])], x[1:, None], torch.where(x > 0, x, 0), x.masked_fill(x > 0, 1), x.to(torch.int64)
        x.repeat_interleave(torch.tensor([1, 2, 0, 1]), output_size=4)
        torch.tensor([1.0, 2.0]).to("meta", non_blocking=True)


def test_a_look_inside_an_operator_is_seen_by_the_profiler() -> None:
    """The gradient of a product looks for zeros, but not while a mode is watching."""
    x = torch.ones(2, 3, requires_grad=True)
    with NoSync():
        x.prod(dim=1).sum().backward()
    with profile() as record:
        x.prod(dim=1).sum().backward()
    assert "_local_scalar_dense" in names_in(record)


@pytest.mark.parametrize("where", ["criterion", "gradient", "optimizer"])
def test_a_look_in_the_step_is_caught(where: str, monkeypatch: Any) -> None:
    class_loss = FocalCriterion.class_loss

    def look(x: Tensor) -> None:
        _ = x[x > 0]

    def planted(self: FocalCriterion, logits: Tensor, assignment: Any) -> Tensor:
        look(logits) if where == "criterion" else logits.register_hook(look)
        return class_loss(self, logits, assignment)

    config = make_config("ssdlite_coco")
    settings = settings_of(config, TrainConfig)

    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = optimizer_factory(settings)(model)
        if where == "optimizer":
            optimizer.register_step_pre_hook(lambda *_: look(next(model.parameters())))
        return optimizer

    if where != "optimizer":
        monkeypatch.setattr(FocalCriterion, "class_loss", planted)
    with pytest.raises(SyncError, match=r"aten\.index\.Tensor.*test_no_sync\.py:\d+ .*_ = x"):
        step(build_task(config), settings, make_optimizer, [make_batch("detection")], watch=NoSync())
