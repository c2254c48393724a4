"""A command line's overrides in the form that Hydra needs."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ... import conf
from ...conf.keys import choices_of, task_of
from ...conf.schema import CONFIGS

NO_BACKBONE = "override /backbone@_global_.backbone: none"  # in the defaults of a model's file


def with_implied(overrides: Sequence[str], config_name: str) -> list[str]:
    """The overrides in the form that Hydra needs, with those that `model=NAME` implies.

    In commands that load weights, `model=NAME` means the published network: its backbone, classes and input size come
    from `conf/public/`. A model that is a complete network gets backbone=none, even if an experiment chooses one.
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
    """Make an override of the whole mapping `lr_factors` replace it; Hydra would merge them."""
    key, _, value = override.partition("=")
    if key == "lr_factors":
        return ["~lr_factors", f"+lr_factors={value}"]
    part = key.removeprefix("lr_factors.")
    return [f"++lr_factors={{{part}: {value}}}" if part != key else override]


def other_task(overrides: Sequence[str], groups: Sequence[str] = ("model", "data")) -> str | None:
    """What is wrong where `experiment=` is for one task and the model or the data are for another; None if nothing."""
    chosen = dict(override.split("=", 1) for override in overrides if "=" in override)
    experiment = chosen.get("experiment", "")
    wanted = task_of("experiment", experiment) if experiment else None
    tasks = {group: task_of(group, chosen[group]) for group in groups if group in chosen}
    if wanted is None or set(tasks.values()) & {wanted, None} or len(set(tasks.values())) != 1:
        return None
    if len(tasks) == 2:  # model and data agree: the experiment gives only what else there is
        return None
    ((group, task),) = tasks.items()
    others = [name for name in choices_of(group) if task_of(group, name) == wanted]
    return (
        f"experiment={experiment} is for {wanted}, but {group}={chosen[group]} is for {task}: use "
        f"experiment=small_{task}, or one of {group}={', '.join(others)}"
    )
