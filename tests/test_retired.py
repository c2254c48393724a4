"""Names of earlier releases."""

import importlib

import pytest
from hydra.utils import instantiate
from pocketvision import retired
from pocketvision.tools.runs.keys import flat_json


@pytest.mark.parametrize(("old", "new"), retired.MODULES.items())
def test_old_modules_have_todays_objects(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match="has moved to pocketvision"):
        module = retired._Alias().create_module(None) or importlib.reload(importlib.import_module(old))
    today = importlib.import_module(new)
    public = [name for name in vars(today) if not name.startswith("_")]
    assert public
    assert all(getattr(module, name) is getattr(today, name) for name in public)


def test_a_users_experiment_may_name_a_crop_as_before() -> None:
    from pocketvision.datasets.augmentation.crops import RandomScaleCrop

    target = "pocketvision.datasets.crops.RandomScaleCrop"
    crop = instantiate({"_target_": target, "size": [8, 8], "scale": [1, 2], "p": 1})
    assert isinstance(crop, RandomScaleCrop)


def test_a_run_is_the_same_by_either_name() -> None:
    old = {"augment": {"train": [{"_target_": "pocketvision.datasets.crops.RandomScaleCrop", "p": 1}]}}
    new = {"augment": {"train": [{"_target_": "pocketvision.datasets.augmentation.crops.RandomScaleCrop", "p": 1}]}}
    assert flat_json(old) == flat_json(new)
    assert flat_json({"data": {"root": "pocketvision.datasets.crops"}})["data.root"] == '"pocketvision.datasets.crops"'
