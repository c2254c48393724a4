"""The answers to other tools' keys are keys of ours; tests/tools/config/test_command.py has the sentences."""

import itertools

import pytest
from omegaconf import OmegaConf
from pocketvision.conf.keys import choices_of, groups_of
from pocketvision.conf.schema import CONFIGS
from pocketvision.tools.config.build import compose
from pocketvision.tools.config.synonyms import (
    _ANSWERS,
    _NETWORKS,
    _OURS,
    _THEIRS,
    instead_of_option,
    our_choice,
    our_key,
    our_sentence,
)

DATA = ("data.root=x", "name=x")
TASKS = [
    compose("experiment=ssdlite_coco", *DATA),
    compose("experiment=small_detection", "name=x", "optimizer=sgd"),
    compose("experiment=small_segmentation", *DATA, "data.classes=[a,b]"),
    compose("experiment=small_classification", *DATA),
]
# Keys that each of these tools' documentation lists for training, prediction and export.
TOOLS = {
    "ultralytics": "imgsz lr0 lrf conf iou data model batch workers project name exist_ok resume weights img cfg hyp "
    "device amp freeze patience seed save_dir source classes max_det epochs optimizer cos_lr momentum weight_decay nbs "
    "warmup_epochs warmup_bias_lr cache half vid_stride save_txt fliplr mosaic mixup copy_paste close_mosaic "
    "agnostic_nms dynamic rect single_cls fraction pretrained save_period plots label_smoothing dropout",
    "torchvision": "data-path dataset model device batch-size epochs workers opt lr momentum weight-decay "
    "norm-weight-decay lr-scheduler lr-step-size lr-steps lr-gamma print-freq output-dir resume start_epoch "
    "aspect-ratio-group-factor trainable-backbone-layers data-augmentation sync-bn test-only world-size dist-url "
    "weights weights-backbone amp base-size crop-size lr-warmup-epochs lr-warmup-decay model-ema",
    "OpenMMLab": "work-dir cfg-options load_from resume_from samples_per_gpu workers_per_gpu launcher gpu-ids "
    "auto-scale-lr max_epochs max_iters val_interval optim_wrapper param_scheduler score_thr norm_eval frozen_stages",
    "segmentation": "num_classes crop_size ignore_index ignore_label base_lr total_iters iters val_every class_weights "
    "ohem output_stride data_root seed",
}


@pytest.mark.parametrize("ours", _THEIRS)
def test_what_is_answered_exists(ours: str) -> None:
    fields = {name for config in CONFIGS.values() for name in config.__dataclass_fields__}
    found = [OmegaConf.select(task, ours, default="none", throw_on_missing=False) for task in TASKS]
    assert ours in fields or ours in groups_of("train") or any(value != "none" for value in found)


@pytest.mark.parametrize(("tool", "key"), [(tool, key) for tool, keys in TOOLS.items() for key in keys.split()])
def test_every_key_of_theirs_has_an_answer(tool: str, key: str) -> None:
    """It is the same here, ours has another name, or there is something else to do."""
    name = key.lower().replace("-", "_")
    known = {*groups_of("train"), *itertools.chain(*(config.__dataclass_fields__ for config in CONFIGS.values()))}
    assert name in known or name in _OURS or name in _ANSWERS, tool
    assert not {*_OURS} & {*_ANSWERS}


@pytest.mark.parametrize("written", _NETWORKS.values())
def test_networks_are_answered_with_choices_that_exist(written: str) -> None:
    for group, choice in (text.split("=") for text in written.split()):
        assert group == "weights" or choice in choices_of(group)


def test_a_key_of_another_command_is_no_answer() -> None:
    assert our_key("conf-thres", ["score_threshold"]) == "score_threshold"
    assert our_key("conf", ["epochs"]) is None
    assert our_key("epochs", ["epochs"]) is None
    assert our_key("project", ["run_dir"]) == "run_dir"
    assert our_key("project", ["output"]) == "output"
    assert our_sentence("resume")
    assert our_choice("model", "runs/yolo11n.pt")
    assert instead_of_option("--classes=3", ["classes"]) == "keys have no dashes, write classes=3"
    assert instead_of_option("--amp", ["precision"]) == "keys have no dashes, write precision=VALUE"
