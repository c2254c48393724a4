"""Runs rebuilt from their checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pocketvision.tools.runs.loaded import load_run


def test_an_error_of_the_users_own_settings_is_not_blamed_on_the_checkpoint(trained_run: Callable[[str], Path]) -> None:
    for key, value, told in (("rot", "x", "data.rot is not a key"), ("num_val", -1, "data.num_val=-1: expected")):
        with pytest.raises(ValueError, match=f"^{told}"):
            load_run(trained_run("detection"), data={key: value})
