"""Every configuration composes, builds, and takes a training step; mistakes are loud."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pocketvision.backbones.counting import Counts, count
from pocketvision.conf.paper_tables import TABLES
from pocketvision.conf.schema import TrainConfig
from pocketvision.datasets.labels import nameless_labels
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.tools.config.build import (
    build_dataset,
    build_loader,
    build_source,
    build_task,
    compose,
    data_tells_classes,
    micro_batch,
    mosaic_share,
    optimizer_factory,
    task_parts,
)
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.distributed import Ranks
from pocketvision.tools.engine.optim import schedule_factor
from pocketvision.tools.engine.task import Task
from pocketvision.tools.train import train

CONF = Path(__file__).resolve().parents[3] / "conf"
EXPERIMENTS = sorted(str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/**/*.yaml"))


def random_batch(task: Task, size: int = 96) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    if task.kind == "segmentation":
        masks = torch.randint(0, task.labels.num_classes, (2, size, size), dtype=torch.uint8, generator=generator)
        return images, [{"mask": mask} for mask in masks]
    if task.kind == "classification":
        return images, [{"label": torch.tensor(label)} for label in (0, task.labels.num_classes - 1)]
    box = {"boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0]]), "labels": torch.tensor([1])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    crowd = {"crowd_boxes": torch.zeros(0, 4), "crowd_labels": torch.zeros(0, dtype=torch.int64)}
    return images, [box | crowd, empty | crowd]


# The rows of the paper's tables are built and counted below. Of those, only networks unlike the others take a step.
ROWS = {"table3/mnasnet_a1", "table6/v1", "table7/row1", "table8/ccc2", "table8/espnetv1", "table8/espnetv2"}
TRAINED = [name for name in EXPERIMENTS if not name.startswith("paper/") or name.removeprefix("paper/") in ROWS]


def test_experiments_are_found_and_each_is_built() -> None:
    assert set(EXPERIMENTS) == {*TRAINED, *COUNTS}
    assert len(EXPERIMENTS) > 50


@pytest.mark.parametrize("name", TRAINED)
def test_every_experiment_builds_and_takes_a_training_step(name: str) -> None:
    config = compose(f"experiment={name}")
    if data_tells_classes(config.data):
        config.data.num_classes = 3  # otherwise told by the data
    torch.manual_seed(0)
    task = build_task(config)
    optimizer = optimizer_factory(settings_of(config, TrainConfig))(task.model)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in task.model.parameters())
    images, targets = random_batch(task)
    before = [p.detach().clone() for p in task.model.parameters()]
    losses = task.criterion(task.model(images), targets)
    sum(losses.values()).backward()
    optimizer.step()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p).all() for p in task.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, task.model.parameters(), strict=True))


def counted(*overrides: str, size: tuple[int, int]) -> Counts:
    with torch.device("meta"):
        model = build_task(compose(*overrides)).model
    return count(model, torch.empty(1, 3, *size, dtype=torch.uint8, device="meta"))


# Parameters, those without batch norm's, multiply-adds of the convolutions and in the paper's count, at the size of the
# paper's table. docs/paper.md, which tests/tools/test_paper.py keeps up to date, compares them with the printed ones.
COUNTS = {
    "paper/table3/v3_large": (5_483_032, 5_458_632, 216_589_760, 220_807_104),
    "paper/table3/v3_large_075": (3_993_528, 3_974_440, 154_560_624, 157_982_992),
    "paper/table3/mnasnet_a1": (3_887_038, 3_853_550, 311_579_072, 312_773_888),
    "paper/table3/v2": (3_504_872, 3_470_760, 300_774_272, 300_774_272),
    "paper/table3/v3_small": (2_542_856, 2_530_744, 56_510_400, 58_679_424),
    "paper/table3/v3_small_075": (2_041_872, 2_032_192, 43_399_344, 45_272_016),
    "paper/table3/mnasnet_small": (2_030_264, 2_013_336, 68_339_184, 68_950_704),
    "paper/table3/v2_035": (1_677_128, 1_663_048, 59_285_808, 59_285_808),
    "paper/table6/v1": (5_100_661, 5_063_413, 1_309_162_944, 1_309_162_944),
    "paper/table6/v2": (4_337_013, 4_286_261, 788_830_144, 788_830_144),
    "paper/table6/mnasnet": (4_929_967, 4_879_455, 837_836_992, 840_275_392),
    "paper/table6/v3_large": (5_006_735, 4_966_591, 613_143_104, 621_744_704),
    "paper/table6/v3_large_reduced": (3_248_255, 3_215_311, 506_563_904, 514_493_504),
    "paper/table6/v2_035": (947_709, 929_531, 166_713_786, 166_713_786),
    "paper/table6/v2_05": (1_562_111, 1_536_527, 272_348_896, 272_348_896),
    "paper/table6/mnasnet_035": (1_041_869, 1_023_563, 177_397_242, 178_309_242),
    "paper/table6/mnasnet_05": (1_704_407, 1_678_775, 290_422_432, 291_756_832),
    "paper/table6/v3_small": (2_518_271, 2_493_487, 210_417_856, 214_840_256),
    "paper/table6/v3_small_reduced": (1_785_743, 1_765_279, 162_303_424, 166_322_624),
    "paper/table7/row1": (2_113_043, 2_079_955, 21_233_054_912, 21_233_054_912),
    "paper/table7/row2": (1_159_123, 1_132_595, 13_632_849_952, 13_632_849_952),
    "paper/table7/row3": (1_030_950, 1_005_446, 12_775_593_568, 12_775_593_568),
    "paper/table7/row4": (987_174, 961_926, 12_523_035_872, 12_523_035_872),
    "paper/table7/row5": (3_600_963, 3_575_027, 18_155_973_384, 18_436_936_056),
    "paper/table7/row6": (1_762_435, 1_743_123, 11_031_499_128, 11_239_210_440),
    "paper/table7/row7": (1_632_894, 1_614_606, 10_129_626_720, 10_337_338_032),
    "paper/table7/row8": (1_507_198, 1_489_166, 9_533_209_824, 9_740_921_136),
    "paper/table7/row9": (282_598, 269_638, 3_958_309_024, 3_958_309_024),
    "paper/table7/row10": (168_502, 158_710, 2_496_780_112, 2_496_780_112),
    "paper/table7/row11": (468_830, 460_206, 2_780_080_960, 2_889_195_088),
    "paper/table8/v3_large_os16": (1_507_198, 1_489_166, 9_533_209_824, 9_740_921_136),
    "paper/table8/v3_large_os32": (1_507_198, 1_489_166, 7_582_881_504, 7_740_273_456),
    "paper/table8/v3_small_os16": (468_830, 460_206, 2_780_080_960, 2_889_195_088),
    "paper/table8/v3_small_os32": (468_830, 460_206, 1_963_916_608, 2_044_276_816),
    "ssdlite_coco_torchvision": (3_440_060, 3_407_116, 583_171_904, 591_101_504),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_network_is_counted_as_ever(name: str) -> None:
    table = int(re.sub(r"paper/table(\d).*", r"\1", name)) if name.startswith("paper/") else 6
    counts = counted(f"experiment={name}", size=next(iter(TABLES[table].sizes.values())))
    assert (counts.params, counts.conv_params, counts.conv_madds, counts.madds) == COUNTS[name]


def test_torchvisions_segmenter_with_its_own_classes() -> None:
    model = build_task(compose("experiment=lraspp_torchvision", "data.num_classes=21")).model
    assert sum(p.numel() for p in model.parameters()) == 3_221_538


@pytest.mark.parametrize("criterion", ["aligned", "focal", "hard_negative"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_scores_are_read_as_they_were_learnt(criterion: str, activation: str) -> None:
    """Sigmoid scores through a softmax make every anchor of the background a detection."""
    model = compose("experiment=small_detection", f"model/criterion={criterion}").model
    model.postprocess.activation = activation
    if (criterion == "hard_negative") == (activation == "softmax"):
        task_parts(model, nameless_labels(3, first=1))
        return
    remedy = f"set model.postprocess.activation={'softmax' if activation == 'sigmoid' else 'sigmoid'}"
    with pytest.raises(ValueError, match=f"model.postprocess.activation={activation}, but .* {remedy}"):
        task_parts(model, nameless_labels(3, first=1))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        # an experiment's criterion outlives another model=: said, not trained
        (("experiment=small_detection", "data.num_classes=3", "model=ssdlite_torchvision"),
         "or model/criterion=hard_negative"),
        (("model=ssdlite", "data=cityscapes", "data.root=x"), "model is for detection, but data is for segmentation"),
        (("data=coco_json",), r"data\.num_classes is null"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build_task(compose(*overrides))


def dataset_of(*overrides: str, training: bool = False) -> AugmentedDataset:
    config = compose(*overrides)
    return build_dataset(config, build_source(config, "train" if training else "val"), training=training)


def test_whole_images_are_evaluated_one_by_one() -> None:
    """They differ in size, and what pads one to another would reach its pooled features."""
    whole = ("experiment=demo_segmentation", "data.resize=none", "data.num_val=3")
    with pytest.raises(ValueError, match=r"data\.eval_size=\[128, 128\] has no effect with data\.resize=none"):
        dataset_of(*whole)
    dataset = dataset_of(*whole, "data.eval_size=null")
    loader = build_loader(dataset, batch_size=2, ranks=Ranks(0, 1, torch.device("cpu")), workers=0, training=False)
    assert [len(batch) for batch in loader] == [1, 1, 1]


def optimizer_of(*overrides: str) -> torch.optim.Optimizer:
    config = compose(*overrides)
    return optimizer_factory(settings_of(config, TrainConfig))(build_task(config).model)


def test_the_papers_recipe_for_imagenet() -> None:
    """Section 6.1; the rate of a batch of 512, and what decays as in the reference: no depthwise filters."""
    config = compose("experiment=imagenet_v3_large", "batch_size=512")
    settings, task = settings_of(config, TrainConfig), build_task(config)
    optimizer = optimizer_factory(settings)(task.model)
    assert isinstance(optimizer, torch.optim.RMSprop)
    decayed, others = optimizer.param_groups
    assert (decayed["lr"], decayed["momentum"], decayed["alpha"]) == (pytest.approx(0.1 / 8), 0.9, 0.9)
    assert (decayed["weight_decay"], others["weight_decay"]) == (1e-5, 0)
    assert (settings.ema_decay, task.model.dropout.p, task.model.backbone.stem.norm.momentum) == (0.9999, 0.2, 0.01)
    factor = schedule_factor(settings.schedule, total_steps=6000, steps_per_epoch=10)
    assert [factor(step) for step in (50, 79, 80, 110)] == pytest.approx([1, 1, 0.99, 0.99**2])


@pytest.mark.parametrize(
    ("optimizer", "factor"), [("sgd", 4.0), ("rmsprop", 4.0), ("adam", 2.0), ("adamw", 2.0)], ids=str
)
def test_the_rate_follows_the_batch(optimizer: str, factor: float) -> None:
    small = ("experiment=small_detection", "data.num_classes=3", "backbone.width=0.35", "optimizer.lr=0.01")
    built = optimizer_of(*small, f"optimizer={optimizer}", "batch_size=64")
    assert built.defaults["lr"] == pytest.approx(0.01 * factor)


def folder_of_one(root: Path, picture: np.ndarray) -> str:
    for split in ("train", "val"):
        (root / split / "a").mkdir(parents=True)
        cv2.imwrite(str(root / split / "a" / "1.png"), picture)
    return f"data.root={root}"


def test_a_crop_of_the_policy_replaces_the_central_crop(tmp_path: Path) -> None:
    """And without a policy training sees what evaluation does."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[8:56, 8:56] = 255  # what a central crop of 3/4 leaves
    common = ("experiment=small_classification", folder_of_one(tmp_path, picture), "data.crop_fraction=0.75")
    for augment, training, black in (("flip", True, True), ("none", True, False), ("flip", False, False)):
        dataset = dataset_of(*common, f"augment={augment}", "data.input_size=[32,32]", training=training)
        image, target, _ = dataset[0]
        assert (image.min().item() == 0) is black
        assert target["label"].item() == 0


def test_the_inception_crop_is_of_the_input_size_and_a_function_of_the_seed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    root = folder_of_one(tmp_path, noise)
    dataset = dataset_of("experiment=imagenet_v3_large", root, "data.input_size=[24,32]", training=True)
    first, again, other = (dataset[epoch, 0][0] for epoch in (0, 0, 1))
    assert first.shape == (3, 24, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "half", None, True])
def test_a_share_of_mosaics_is_one(share: object) -> None:
    data = OmegaConf.create({"task": "detection", "resize": "stretch"})
    with pytest.raises(ValueError, match=r"augment\.mosaic=\S+: expected a number from 0 to 1"):
        mosaic_share(OmegaConf.create({"mosaic": share}), data)


def test_without_augmentation_there_are_no_mosaics() -> None:
    without = ("augment=none", "augment=flip", "augment=detection_photometric", "augment.mosaic=0", "mode=overfit")
    for choice, share in {"augment=detection_mosaic": 0.5, **dict.fromkeys(without, 0)}.items():
        config = compose("experiment=small_detection", choice)
        assert mosaic_share(config.augment, config.data) == share


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["experiment=small_classification", "augment=flip"], r"data\.task=classification"),
        (["experiment=small_detection", "data.resize=shorter"], r"data\.resize=shorter"),
    ],
)
def test_what_has_no_mosaics_says_so_before_data_is_read(overrides: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=rf"augment\.mosaic=0.5 needs .*{told}"):
        train(compose(*overrides, "augment.mosaic=0.5"))


def test_a_batch_that_does_not_divide() -> None:
    settings = TrainConfig(batch_size=10, accumulate=2)
    assert micro_batch(settings, Ranks(0, 1, torch.device("cpu"))) == 5
    with pytest.raises(ValueError, match="batch_size=10"):
        micro_batch(settings, Ranks(0, 4, torch.device("cpu")))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lr_factors={}"], {}),
        (["lr_factors={backbone: 0.1}"], {"backbone": 0.1}),
        (["lr_factors={backbone.stem: 0.1, class_towers: 2}"], {"backbone.stem": 0.1, "class_towers": 2}),
        (["lr_factors={}", "lr_factors.backbone.blocks.0-5=0.5"], {"backbone.blocks.0-5": 0.5}),
        (["lr_factors.class_towers=2"], {"backbone": 0.3, "class_towers": 2}),
    ],
)
def test_rate_factors_replace_those_of_an_experiment_and_a_single_one_joins_them(
    overrides: list[str], expected: dict[str, float]
) -> None:
    assert compose("experiment=finetune_detection", *overrides).lr_factors == expected


@pytest.mark.parametrize("override", ["lr_factors={backbone: 2}", "lr_factors.backbone=2"])
def test_a_command_without_rate_factors_refuses_them(override: str) -> None:
    with pytest.raises(Exception, match="Could not override 'lr_factors"):
        compose(override, config_name="evaluate")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("schedule.gamma=0", r"schedule\.gamma=0.0: expected a number above 0 and at most 1"),
        ("schedule.gamma=1.1", r"schedule\.gamma=1.1"),
        ("schedule.every_epochs=0", r"schedule\.every_epochs=0.0: expected more than 0"),
        ("cache=tape", "cache=tape: expected ram, disk or null"),
        ("cache_folder=x", "cache_folder=x is used only with cache=disk"),
        *((f"lr_factors={value}", "lr_factors") for value in ("null", "3", "[backbone]", "{backbone: fast}", "{1: 2}")),
    ],
)
def test_values_out_of_range(override: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        settings_of(compose("experiment=imagenet_v3_large", override), TrainConfig)
