"""A value rounded to eight bits in floating point, so that training sees what an integer network will compute."""

from torch import Tensor, nn


class FakeQuantize(nn.Module):
    """Rounds a tensor to `low` .. `high` steps of a learned size, and lets gradients through (LSQ, ICLR 2020).

    Values outside the range are clipped and have no gradient. The size of a step is trained as its logarithm, so that
    one learning rate suits all of them, and stays positive; the zero point is fixed.

    Args:
        axis: the dimension of the tensor that each has its own size of; None: one for all.
    """

    log_scale: nn.Parameter
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, *, low: int, high: int, axis: int | None) -> None:
        super().__init__()
        if scale.shape != zero_point.shape or scale.ndim != 1 or (axis is None and len(scale) != 1):
            raise ValueError(f"scale {[*scale.shape]} and zero_point {[*zero_point.shape]} do not fit axis={axis}")
        self.low, self.high, self.axis = low, high, axis
        self.log_scale = nn.Parameter(scale.detach().float().log())
        self.register_buffer("zero_point", zero_point.detach().float().round())

    @property
    def scale(self) -> Tensor:
        """The size of a step [n], n = 1 without `axis`."""
        return self.log_scale.exp()

    def shaped(self, values: Tensor, ndim: int) -> Tensor:
        """Values [n] for a tensor of `ndim` dimensions."""
        return values if self.axis is None else values.view([-1 if i == self.axis else 1 for i in range(ndim)])

    def steps(self, x: Tensor) -> Tensor:
        """The steps that a tensor is rounded to, `low` .. `high`, as floating point numbers."""
        return self._clipped(x)[0].round()

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        steps, scale, zero = self._clipped(x)
        return (steps + (steps.round() - steps).detach() - zero) * scale

    def _clipped(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The steps before they are rounded, and their sizes and zero points, which broadcast with x."""
        scale, zero = self.shaped(self.scale, x.ndim), self.shaped(self.zero_point, x.ndim)
        return (x / scale + zero).clamp(self.low, self.high), scale, zero
