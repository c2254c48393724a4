"""A command line's overrides, as Hydra needs them."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ... import conf
from ...conf.schema import CONFIGS

NO_BACKBONE = "override /backbone@_global_.backbone: none"  # in the defaults of a model's file


def with_implied(overrides: Sequence[str], config_name: str) -> list[str]:
    """The overrides as Hydra needs them, with those that `model=NAME` implies.

    Where weights are looked for it means the network as it was published; its backbone, classes and input size stand in
    `conf/public/`. A network of its own has no backbone, also where an experiment chooses one.
    """
    given = {override.partition("=")[0] for override in overrides}
    name = next((override[6:] for override in overrides if override.startswith("model=")), "")
    folder, implied = Path(conf.__file__).parent, []
    published = (folder / "public" / f"{name}.yaml").is_file()
    if (
        published
        and config_name in ("predict", "export", "import_weights", "benchmark")
        and not given & {"experiment", "public"}
    ):
        implied.append(f"public={name}")
    model = folder / "model" / f"{name}.yaml"
    if "backbone" not in given and model.is_file() and NO_BACKBONE in model.read_text():
        implied.append("backbone=none")
    if any(field.name == "lr_factors" for field in fields(CONFIGS[config_name])):
        overrides = [part for override in overrides for part in _replaced(override)]
    return [*implied, *overrides]


def _replaced(override: str) -> list[str]:
    """An override of a mapping with keys of the user's own: a whole one replaces the old, which Hydra would merge."""
    key, _, value = override.partition("=")
    if key == "lr_factors":
        return ["~lr_factors", f"+lr_factors={value}"]
    part = key.removeprefix("lr_factors.")
    return [f"++lr_factors={{{part}: {value}}}" if part != key else override]
