"""What the open groups' keys take: every key, every spelling, before any data is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from pocketvision.conf.limits import LEAST, SIZES
from pocketvision.conf.schema import CONFIGS
from pocketvision.tools.config.build import build_source, compose
from pocketvision.tools.config.values import GROUPS, Kind, normalize, value_of

CONF = Path(__file__).resolve().parents[3] / "conf"
FILES = [path for group in GROUPS for path in sorted((CONF / group).rglob("*.yaml"))]


def leaves(node: Any) -> list[tuple[str, Any]]:
    """(key, value) of everything below that is no node with a target."""
    if isinstance(node, list):
        return [leaf for item in node if isinstance(item, dict) for leaf in leaves(item)]
    if str(node.get("_target_", "pocketvision.")).startswith("albumentations."):  # which checks its own
        return []
    found = []
    for key, value in node.items():
        if key == "defaults" or key.startswith("_"):
            continue
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            found += leaves(value)
        else:
            found.append((key, value))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_has_a_kind_and_its_value_is_of_it(path: Path) -> None:
    kinds = GROUPS[path.relative_to(CONF).parts[0]]
    for key, value in leaves(yaml.safe_load(path.read_text())):
        if (key, value) in (("labels", None), ("train", [])):  # a node, or a list of them
            continue
        assert key in kinds
        if value != "???" and not str(value).startswith("${"):
            assert value_of(key, value, kinds[key]) == value


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("input_size", 640, [640, 640]),
        ("input_size", "640x640", [640, 640]),
        ("input_size", "640,640", [640, 640]),
        ("input_size", [96.0, 128.0], [96, 128]),
        ("eval_size", None, None),
        ("num_classes", 3.0, 3),
        ("ignore_ids", 255, [255]),
        ("ignore_ids", [], []),
        ("ignore_ids", [11.0, 12], [11, 12]),
        ("ignore_colors", [0, 0, 0], [[0, 0, 0]]),
        ("ignore_colors", [], []),
        ("classes", "classes.txt", "classes.txt"),
        ("classes", ["sky", 2024], ["sky", "2024"]),
        ("years", 2012, [2012]),
        ("limit", 5.0, 5),
        ("holdout", None, None),
    ],
)
def test_spellings_that_are_read(key: str, value: Any, read: Any) -> None:
    found = value_of(key, value, GROUPS["data"][key])
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("input_size", value) for value in ([], [96], [0, 96], [-5, 64], [1, 2, 3], [64.5, 64], [10**5, 10**5], 0, -6,
                                              True, "", "640x480", "abc", float("nan"), [float("inf"), 1], {"h": 1})),
        *(("num_classes", value) for value in (0, -1, 2.5, "3", True, [3], 10**12)),
        *(("ignore_ids", value) for value in ("11", [11.5], [[1]], True, None, -1, [0, 256])),
        *(("ignore_colors", value) for value in ([0, 0], [[0, 0, 256]], "black", [[0, 0, 0], 1])),
        *(("holdout", value) for value in (0, 1, -0.2, 1.5, "0.2", [0.2], True)),
        *(("classes", value) for value in (3, True, [["a"]], [None], " ")),
        *(("root", value) for value in (None, 3, ["a", "b"], "")),
        ("limit", 2.5), ("resize", "zoom"), ("one_based", "yes"), ("years", [7]), ("slots", 91), ("seed", -1),
    ],
)  # fmt: skip
def test_other_values_are_refused_by_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^data\.{key}=.*: expected "):
        value_of(f"data.{key}", value, GROUPS["data"][key])


def complaint(key: str, value: Any, kind: Kind) -> str:
    """The message of a refusal, empty if the value is taken."""
    try:
        value_of(key, value, kind)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", ["some text", -1, [[]], {}, 1e30, True, None])
@pytest.mark.parametrize("group", GROUPS)
def test_every_key_takes_a_value_or_names_itself(group: str, value: Any) -> None:
    found = {key: complaint(key, value, kind) for key, kind in GROUPS[group].items()}
    assert any(found.values())
    assert all(text.startswith(f"{key}=") for key, text in found.items() if text)


def test_groups_are_checked_in_place_and_other_classes_left_alone() -> None:
    config = compose("experiment=demo_detection")
    config.data.input_size, config.backbone.bn_eps = 96, "abc"
    with pytest.raises(ValueError, match=r"^backbone\.bn_eps=abc: expected a number above 0"):
        normalize(config)
    config.backbone._target_ = "somebody.elses.Backbone"
    config.data.train.size = "64x64"
    normalize(config)
    assert OmegaConf.to_container(config.data.input_size) == [96, 96] == config.data.eval_size
    assert config.data.train.size == [64, 64]
    config.data.val.length = 3.0
    normalize(config)
    assert type(config.data.val.length) is int
    for value in ([], {"h": 1}):
        config.data.input_size = value
        with pytest.raises(ValueError, match=r"^data\.input_size=.*: expected \[h,w\] in pixels"):
            normalize(config)
    config.data.input_size = 64
    config.data.val.length = 0
    with pytest.raises(ValueError, match=r"^data\.val\.length=0: expected a whole number of 1 or more"):
        normalize(config)


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("data.root", "~/coco", "/home/me/coco"),
        ("data.root", "$HOME/coco", "/home/me/coco"),
        ("data.root", "~", "/home/me"),
        ("data.root", "$HOMER/coco", "$HOMER/coco"),
        ("run_dir", "~/runs/x", "/home/me/runs/x"),
        ("weights", "~/x.pth", "/home/me/x.pth"),
        ("data.root", "a/~/b", "a/~/b"),
    ],
)
def test_home_is_expanded_in_every_path(key: str, value: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = compose("experiment=ssdlite_coco", "data.root=x", "name=x")
    OmegaConf.update(config, key, value)
    normalize(config)
    assert OmegaConf.select(config, key) == path
    assert config.data.val.root == config.data.root


def test_home_is_expanded_in_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = compose("run='~/x'", "inputs=['~/a.jpg',b.jpg]", config_name="predict")
    assert (config.run, list(config.inputs)) == ("/home/me/x", ["/home/me/a.jpg", "b.jpg"])


@pytest.mark.parametrize("command", CONFIGS)
def test_every_whole_number_of_every_command_has_a_range(command: str) -> None:
    kinds = {key: field.type for key, field in CONFIGS[command].__dataclass_fields__.items()}
    assert {key for key, kind in kinds.items() if kind in (int, int | None)} <= LEAST.keys()
    assert {key for key, kind in kinds.items() if kind in (list[int], list[int] | None)} <= {*SIZES}


def test_a_home_folder_that_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^run_dir=~no\.body_7/runs: there is no user no\.body_7 with a home folder"):
        compose("experiment=demo_detection", "run_dir='~no.body_7/runs'")


def test_a_split_of_null_is_refused_by_its_key() -> None:
    config = compose("experiment=demo_detection", "data.val=null")
    with pytest.raises(ValueError, match=r"^data\.val=null: expected where the images are"):
        build_source(config, "val")


def test_a_folder_may_be_called_like_a_number(in_tmp_path: Path) -> None:
    keys = ("experiment=small_segmentation", "data.root=nan", "data.classes=[a,b]", "data.lists=2007")
    with pytest.raises(ValueError, match=r"^data\.root=nan: expected a path"):
        compose(*keys)
    for name in ("nan", "2007"):
        (in_tmp_path / name).mkdir()
    config = compose(*keys)
    assert (config.data.root, config.data.lists) == ("nan", "2007")
