"""The GPU check in short form: its parts on the CPU, what stops them, and a device that needs no GPU."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pocketvision.tools.config.build import build_task, compose
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

SMALLER = ("data.input_size=[64,64]", "data.num_train=48", "data.num_val=4", "batch_size=8", "backbone.width=0.35",
           "workers=0")  # fmt: skip


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", Path(__file__).parent / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("part", ["detection", "no_sync", "resume", "deploy"])
def test_parts_hold_on_the_cpu(part: str, check: ModuleType, tmp_path: Path) -> None:
    setup = check.Setup(tmp_path, "cpu", steps=8, precisions=("fp32", "bf16"), smaller=SMALLER)
    rows = list(check.PARTS[part][0](setup))
    assert rows
    assert all(row.good for row in rows), rows


def test_a_part_that_takes_too_long_or_fails_is_told(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    monkeypatch.setattr(check, "__file__", str(script))
    for text, found, good in (
        ("import time; time.sleep(9)", "stopped after 1 s", None),
        ("raise SystemExit('no memory')", "ended with 1: no memory", False),
    ):
        script.write_text(text)
        assert check.supervise("resume", tmp_path, 1) == [check.Row("resume", found, good)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_without_a_gpu_it_skips(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 0
    assert "finds no CUDA GPU: skipped" in capsys.readouterr().out


def test_missing_packages_are_listed(
    check: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "NEEDED", ("torch", "not_there", "nor_this"))
    assert check.main([]) == 1
    assert "lacks not_there, nor_this" in capsys.readouterr().out


# ---- a CUDA device that has no values -----------------------------------------------------------------------


def fake_losses(experiment: str, overrides: Sequence[str]) -> dict[str, torch.Tensor]:
    """Forward and criterion on a fake CUDA device: a tensor on another device is an error."""
    task = build_task(compose(f"experiment={experiment}", "data.num_classes=3", *overrides))
    model = task.model.train()
    tensors = (*model.named_parameters(), *model.named_buffers())
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors}
    with FakeTensorMode():
        for name, tensor in list(task.criterion.named_buffers()):
            setattr(task.criterion, name, torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda"))
        state = {name: torch.empty(shape, dtype=dtype, device="cuda") for name, (shape, dtype) in kinds.items()}
        outputs = functional_call(model, state, (torch.empty(2, 3, 64, 64, dtype=torch.uint8, device="cuda"),))
        target: dict[str, Any] = {"mask": torch.empty(64, 64, dtype=torch.uint8, device="cuda")}
        if task.kind == "detection":
            boxes, crowds = torch.empty(3, 4, device="cuda"), torch.empty(1, 4, device="cuda")
            target = {"boxes": boxes, "labels": torch.empty(3, dtype=torch.int64, device="cuda"), "crowd_boxes": crowds}
        return task.criterion.sums(outputs, [target, target])[0]


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("small_detection", ()),
        ("small_detection", ("model/criterion=focal",)),
        ("ssdlite_coco_torchvision", ("data.slots=contiguous", "data.labels=null")),
        ("small_segmentation", ()),
        ("small_segmentation", ("model.criterion.ohem_threshold=0.7", "model.criterion.class_weights=[1,2,0.5]")),
        ("lraspp_torchvision", ()),
        ("small_segmentation", ("model=raspp",)),
        ("small_segmentation", ("model=espnetv2",)),
    ],
)
def test_every_tensor_of_a_step_is_on_the_device(experiment: str, overrides: Sequence[str]) -> None:
    assert {loss.device.type for loss in fake_losses(experiment, overrides).values()} == {"cuda"}


def test_a_tensor_on_the_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from pocketvision.detection.criterion import AlignedCriterion

    sums = AlignedCriterion.sums

    def planted(self: AlignedCriterion, outputs: dict[str, torch.Tensor], targets: Any) -> Any:
        return sums(self, {**outputs, "anchors": torch.empty(outputs["anchors"].shape)}, targets)

    monkeypatch.setattr(AlignedCriterion, "sums", planted)
    with pytest.raises(RuntimeError, match="device"):
        fake_losses("small_detection", ())
