"""The answers to other tools' keys are keys of ours; tests/tools/config/test_command.py has the sentences."""

import pytest
from omegaconf import OmegaConf
from pocketvision.conf.schema import CONFIGS
from pocketvision.tools.config.build import compose
from pocketvision.tools.config.synonyms import _THEIRS, our_key

TRAIN = compose("experiment=ssdlite_coco", "data.root=x", "+data.classes=x", "name=x")


@pytest.mark.parametrize("ours", _THEIRS)
def test_what_is_answered_exists(ours: str) -> None:
    fields = {name for config in CONFIGS.values() for name in config.__dataclass_fields__}
    assert ours in fields or OmegaConf.select(TRAIN, ours, default="none") != "none"


def test_a_key_of_another_command_is_no_answer() -> None:
    assert our_key("conf-thres", ["score_threshold"]) == "score_threshold"
    assert our_key("conf", ["epochs"]) is None
    assert our_key("epochs", ["epochs"]) is None
