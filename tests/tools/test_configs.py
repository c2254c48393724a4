"""Every configuration composes, builds, and takes a training step; mistakes are loud."""

from pathlib import Path

import pytest
import torch
from hydra.errors import ConfigCompositionException
from pocketvision.tools.build import (
    build_dataset,
    build_loader,
    build_source,
    build_task,
    compose,
    micro_batch,
    optimizer_factory,
    train_settings,
)
from pocketvision.tools.engine.distributed import Ranks
from pocketvision.tools.engine.task import Task

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPERIMENTS = sorted(str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/**/*.yaml"))


def random_batch(task: Task, size: int = 96) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    if task.kind == "segmentation":
        masks = torch.randint(0, task.labels.num_classes, (2, size, size), dtype=torch.uint8, generator=generator)
        return images, [{"mask": mask} for mask in masks]
    box = {"boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0]]), "labels": torch.tensor([1])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    crowd = {"crowd_boxes": torch.zeros(0, 4), "crowd_labels": torch.zeros(0, dtype=torch.int64)}
    return images, [box | crowd, empty | crowd]


def test_experiments_are_found() -> None:
    assert {"ssdlite_coco", "lraspp_cityscapes", "demo_detection", "paper/table7/row8"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_builds_and_takes_a_training_step(name: str) -> None:
    config = compose(f"experiment={name}")
    if config.data.num_classes is None and config.data.get("labels") is None:
        config.data.num_classes = 3  # otherwise told by the data
    settings = train_settings(config)
    torch.manual_seed(0)
    task = build_task(config)
    optimizer = optimizer_factory(config, settings)(task.model)
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ssdlite_coco", 3_248_255),
        ("ssdlite_coco_torchvision", 3_440_060),
        ("paper/table6/v3_large_reduced", 3_248_255),
        ("paper/table6/v3_large", 5_006_735),
        ("paper/table6/v3_small", 2_518_271),
        ("paper/table6/v3_small_reduced", 1_785_743),
        ("lraspp_cityscapes", 1_507_198),
        ("paper/table7/row7", 1_632_894),
        ("paper/table7/row8", 1_507_198),
        ("paper/table7/row11", 468_830),
    ],
)
def test_experiments_have_the_papers_parameters(name: str, parameters: int) -> None:
    model = build_task(compose(f"experiment={name}")).model
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_torchvisions_segmenter_with_its_own_classes() -> None:
    model = build_task(compose("experiment=lraspp_torchvision", "data.num_classes=21")).model
    assert sum(p.numel() for p in model.parameters()) == 3_221_538


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("epoch=3", "epoch"),
        ("model.network.fliters=3", "fliters"),
        ("epochs=ten", "ten"),
        ("precision=int8", "int8"),
        ("schedule.name=cosin", "cosin"),
        ("backbone=mobilenet_v9", "mobilenet_v9"),
    ],
)
def test_a_typo_is_an_error_that_names_it(override: str, named: str) -> None:
    with pytest.raises(ConfigCompositionException) as error:
        compose("experiment=demo_segmentation", override)
    assert named in str(error.value) + str(error.value.__cause__)


def test_model_and_data_of_different_tasks() -> None:
    with pytest.raises(ValueError, match="model is for detection but data for segmentation"):
        build_task(compose("model=ssdlite", "data=cityscapes", "data.root=x"))


def test_whole_images_have_no_evaluation_size() -> None:
    config = compose("experiment=demo_segmentation", "data.resize=none", "data.num_val=1")
    with pytest.raises(ValueError, match=r"data\.eval_size=\[128, 128\] with data\.resize=none"):
        build_dataset(config, build_source(config, "val"), training=False)


def test_whole_images_are_evaluated_one_by_one() -> None:
    """They differ in size, and what pads one to another would reach its pooled features."""
    config = compose("experiment=demo_segmentation", "data.resize=none", "data.eval_size=null", "data.num_val=3")
    dataset = build_dataset(config, build_source(config, "val"), training=False)
    loader = build_loader(dataset, batch_size=2, ranks=Ranks(0, 1, torch.device("cpu")), workers=0, training=False)
    assert [len(batch) for batch in loader] == [1, 1, 1]


def test_unknown_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"data\.num_classes"):
        build_task(compose("data=coco_json"))


def test_the_learning_rate_is_linear_in_the_batch() -> None:
    config = compose("experiment=ssdlite_coco", "batch_size=64")
    optimizer = optimizer_factory(config, train_settings(config))(build_task(config).model)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4 / 8)


def test_a_batch_that_does_not_divide() -> None:
    settings = train_settings(compose("experiment=demo_detection", "batch_size=10", "accumulate=2"))
    assert micro_batch(settings, Ranks(0, 1, torch.device("cpu"))) == 5
    with pytest.raises(ValueError, match="batch_size=10"):
        micro_batch(settings, Ranks(0, 4, torch.device("cpu")))
