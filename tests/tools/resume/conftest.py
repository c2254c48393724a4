"""Options of `pytest tests/tools/resume`: a training of your own, how often it is killed, its processes."""

import shlex
from dataclasses import dataclass

import pytest


@dataclass
class Asked:
    """What the command line asks for."""

    train: tuple[str, ...]
    kills: int | None
    ranks: int


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("resume")
    group.addoption("--train", default="", help="a training to kill, too: its overrides, in one word")
    group.addoption("--kills", type=int, help="how often each training is killed")
    group.addoption("--ranks", type=int, default=1, help="processes of --train")


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Asked:
    """Options; their defaults where pytest was started elsewhere, and does not know them."""
    train, kills, ranks = (request.config.getoption(f"--{name}", default) for name, default in
                           (("train", ""), ("kills", None), ("ranks", 1)))  # fmt: skip
    return Asked(tuple(shlex.split(train)), kills, ranks)
