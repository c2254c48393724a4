"""Rounding to eight bits: as torch and NNCF round, with the gradients of LSQ."""

import pytest
import torch
from pocketvision.tools.quantizing.fake import FakeQuantize

SCALE = torch.tensor([0.1, 0.02, 0.5])


def per_tensor(scale: float = 0.1, zero_point: int = 30) -> FakeQuantize:
    return FakeQuantize(torch.tensor([scale]), torch.tensor([zero_point]), low=0, high=255, axis=None)


def per_channel() -> FakeQuantize:
    return FakeQuantize(SCALE, torch.zeros(3), low=-128, high=127, axis=1)


@pytest.mark.parametrize("shape", [(0,), (0, 3, 2), (2, 0)])
def test_nothing_stays_nothing(shape: tuple[int, ...]) -> None:
    assert per_tensor()(torch.zeros(shape)).shape == shape


def test_values_are_those_of_torch() -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 10
    expected = torch.fake_quantize_per_tensor_affine(x, 0.1, 30, 0, 255)
    torch.testing.assert_close(per_tensor()(x), expected, rtol=0, atol=2e-6)
    expected = torch.fake_quantize_per_channel_affine(x, SCALE, torch.zeros(3, dtype=torch.int32), 1, -128, 127)
    torch.testing.assert_close(per_channel()(x), expected, rtol=0, atol=4e-6)


def test_steps_are_whole_numbers_within_the_range() -> None:
    steps = per_tensor().steps(torch.tensor([-9.0, -3.04, 0.0, 0.06, 99.0]))
    assert steps.tolist() == [0, 0, 30, 31, 255]


def test_gradients_are_those_of_torch_and_nothing_passes_where_values_are_clipped() -> None:
    """torch's learnable operator gives the gradient of the step; ours is of its logarithm."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)) * 10
    values = values[((values / 0.1 + 30) % 255 - 127.5).abs() < 127]  # torch's range has half a step more at both ends
    ours, fake = values.clone().requires_grad_(), per_tensor()
    theirs, scale = values.clone().requires_grad_(), torch.tensor([0.1], requires_grad=True)
    (fake(ours) * values).sum().backward()
    other = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, torch.tensor([30.0]), 0, 255, 1.0)
    (other * values).sum().backward()
    inside = (values / 0.1 + 30 > 0) & (values / 0.1 + 30 < 255)
    assert 0 < inside.sum() < len(values)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad[~inside] == 0).all()
    assert scale.grad is not None
    torch.testing.assert_close(fake.log_scale.grad, scale.grad * 0.1, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("scale", "zero_point", "axis"), [((3,), (1,), 1), ((3,), (3,), None), ((1, 1), (1, 1), None), ((0,), (0,), None)]
)
def test_shapes_that_do_not_fit_are_refused(scale: tuple[int], zero_point: tuple[int], axis: int | None) -> None:
    with pytest.raises(ValueError, match=f"do not fit axis={axis}"):
        FakeQuantize(torch.ones(scale), torch.zeros(zero_point), low=0, high=255, axis=axis)
