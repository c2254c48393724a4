"""Building from a configuration that is not the user's own: from a checkpoint or an exported file."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from .command import explain

_WRONG = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, AssertionError),
    *(HydraException, OmegaConfBaseException),
)


@contextmanager
def building(what: str, *, with_own: bool = False) -> Iterator[None]:
    """Whatever goes wrong inside becomes one ValueError in one line, which begins with `what`.

    Args:
        with_own: settings of the user are part of it; a ValueError may be about those, and stays as it is.
    """
    try:
        yield
    except _WRONG as error:
        if with_own and isinstance(error, ValueError):
            raise
        raise ValueError(f"{what}: {' '.join(explain(error).split()):.400}") from error
