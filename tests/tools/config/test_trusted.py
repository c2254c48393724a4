"""A configuration inside a checkpoint cannot run code."""

import time
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pocketvision.datasets.labels import Label, LabelMap
from pocketvision.tools.config.build import build_task, compose, make, task_parts
from pocketvision.tools.config.trusted import ALLOWED_TARGETS, _identity, trusted
from pocketvision.tools.runs.keys import portable


@cache
def composed() -> DictConfig:
    return compose("experiment=demo_detection")


def stored(**changes: Any) -> dict[str, Any]:
    """A checkpoint's configuration; of a change to a group only these keys."""
    config = OmegaConf.to_container(composed(), enum_to_str=True)
    assert isinstance(config, dict)
    groups = {name: {**config[name], **changes.pop(name)} for name in ("backbone", "model", "data") if name in changes}
    return {str(k): v for k, v in config.items()} | changes | groups


def refuse(config: Any, *, match: str = "", data: dict[str, Any] | None = None) -> None:
    with pytest.raises(ValueError, match=match or REFUSED):
        trusted(config, data=data)


def test_our_own_configurations_are_trusted() -> None:
    for name in ("demo_detection", "demo_segmentation", "ssdlite_coco", "lraspp_cityscapes", "small_segmentation",
                 "imagenet_v3_large", "small_classification"):  # fmt: skip
        paths = ("data.root=x",) if "demo" not in name else ()
        classes = ("data.classes=[a,b]",) if name == "small_segmentation" else ()
        config = OmegaConf.to_container(compose(f"experiment={name}", *paths, *classes), enum_to_str=True)
        assert trusted(config).backbone.variant in ("large", "small")  # type: ignore[arg-type]


def test_what_a_resolver_answered_travels_in_place_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENES", "32")
    config = compose("experiment=demo_detection", "data.num_val='${oc.decode:${oc.env:SCENES}}'")
    header = portable(config)
    assert header["data"]["num_val"] == 32
    assert header["data"]["val"]["length"] == "${data.num_val}"
    assert trusted(header, data={"num_val": 7}).data.val.length == 7


def test_what_a_machine_counted_with_does_not_travel() -> None:
    """A run trained with faster-coco-eval loads where that is missing."""
    config = stored()
    config["model"]["metric"]["backend"] = "faster"
    assert "backend" not in trusted(config).model.metric


def test_data_keys_are_replaced_or_unknown() -> None:
    assert trusted(stored(), data={"num_val": 3}).data.val.length == 3
    refuse(stored(), data={"rot": "x"}, match=r"data\.rot is not a key")


TARGETS = {
    "backbones": "classifier.Classifier criterion.LabelCriterion metric.TopAccuracy mnasnet.MnasNet "
    "mobilenet_v1.MobileNetV1 mobilenet_v2.MobileNetV2 mobilenet_v3.MobileNetV3 postprocess.Rankings",
    "datasets": "cityscapes.Cityscapes coco.CocoDetection coco_json.CocoJson image_folder.ImageFolder "
    "labels.cityscapes_labels labels.coco_labels labels.imagenet_labels labels.nameless_labels "
    "labels.voc_labels mask_folder.MaskFolder shapes.ShapesDetection shapes.ShapesSegmentation "
    "voc.VocDetection yolo.YoloDetection",
    "detection": "anchors.AnchorLayout criterion.AlignedCriterion criterion.FocalCriterion "
    "criterion.HardNegativeCriterion metric.CocoMetric network.SSDLite postprocess.Postprocess",
    "segmentation": "c3net.C3Net criterion.PixelCriterion espnet.ESPNet espnetv2.ESPNetv2 metric.MeanIoU "
    "network.LRASPP network.RASPP postprocess.LabelMaps",
}


def test_what_conf_names_is_allowed_and_nothing_else() -> None:
    """A new part's file in conf/ is enough; this list is what a reviewer looks at."""
    listed = {f"pocketvision.{package}.{name}" for package, names in TARGETS.items() for name in names.split()}
    assert listed == ALLOWED_TARGETS == {_identity(target) for target in listed}


# ---- attacks ---------------------------------------------------------------------------------------------

SSDLITE = "pocketvision.detection.network.SSDLite"
SHAPES = {"_target_": "pocketvision.datasets.shapes.ShapesDetection", "length": 1}
REFUSED = "not on the allowlist|not a plain value or reference"
HOSTILE = {"_target_": "torch.load", "f": "payload.pt", "weights_only": False}


def nested(depth: int, end: Any) -> Any:
    for _ in range(depth):
        end = [end]
    return end


@pytest.mark.parametrize(
    "target",
    [
        None,
        b"os.system",
        ["pocketvision.detection.network.SSDLite"],
        {"_target_": SSDLITE},
        "???",
        ".",
        "",
        7,
        # other people's
        "os.system",
        "torch.load",
        "builtins.eval",
        "subprocess.Popen",
        "builtins.exec",
        "importlib.import_module",
        "pickle.loads",
        "functools.partial",
        "hydra.utils.instantiate",
        "hydra.utils.get_object",
        "hydra.utils.get_method",
        "omegaconf.OmegaConf.load",
        "pocketvision_other.detection.network.SSDLite",
        # ours, but not for this
        "pocketvision",
        "pocketvision.load",
        "pocketvision.detection",
        "pocketvision.tools.config.build.make",
        "pocketvision.tools.config.build.torch.load",
        "pocketvision.tools.config.build.instantiate",
        "pocketvision.tools.config.build.importlib.import_module",
        "pocketvision.tools.runs.loaded.load_run",
        "pocketvision.tools.runs.loaded.load_checkpoint",
        "pocketvision.tools.engine.state.os.replace",
        "pocketvision.tools.engine.state.read_tensors",
        "pocketvision.tools.train.main",
        "pocketvision.datasets.labels.read_class_file",
        "pocketvision.datasets.writing.shapes_writer.write_coco",
        "pocketvision.detection.network.partial",
        "pocketvision.detection.network.torch.load",
        "pocketvision.datasets.coco.Path",
        "pocketvision.datasets.coco.json.loads",
        "pocketvision.datasets.coco.os",
        "pocketvision.datasets.cityscapes.CITYSCAPES",
        # what belongs to an allowed class
        f"{SSDLITE}.__init__",
        f"{SSDLITE}.__class__",
        f"{SSDLITE}.load_state_dict",
        f"{SSDLITE}.forward.__globals__",
        f"{SSDLITE}.__init__.__globals__",
        "pocketvision.datasets.labels.LabelMap.from_json",
        "pocketvision.detection.anchors.AnchorLayout.reference",
        "pocketvision.datasets.labels.coco_labels.__call__",
        # an allowed class by way of another module
        "pocketvision.tools.config.build.LabelMap",
        "pocketvision.detection.network.AnchorLayout.__class__",
        "pocketvision.detection.weights.SSDLite",
        # spellings
        f" {SSDLITE}",
        f"{SSDLITE} ",
        f"{SSDLITE}\n",
        "pocketvision..detection.network.SSDLite",
        "pocketvision.detection.network.SSDLit\u0435",  # a Cyrillic e
        "\uff50ocketvision.detection.network.SSDLite",  # a full-width p
        "POCKETVISION.detection.network.SSDLite",
        "pocketvision/detection/network.SSDLite",
        "pocketvision.detection.network:SSDLite",
    ],
    ids=repr,
)
def test_targets_of_an_attacker_are_refused_wherever_they_stand(target: Any) -> None:
    for place in ("backbone", "model", "data"):
        refuse(stored(**{place: {"extra": [{"deep": {"_target_": target}}]}}))


def test_an_allowed_class_by_way_of_another_of_our_modules_is_that_class() -> None:
    config = stored()
    config["model"]["network"]["anchors"]["_target_"] = "pocketvision.detection.network.AnchorLayout"
    assert type(make(trusted(config).model.network.anchors)).__name__ == "AnchorLayout"


@pytest.mark.parametrize(
    "node",
    [
        [HOSTILE],
        {"_args_": [HOSTILE]},
        {"a": [{"b": [[HOSTILE]]}]},
        {**SHAPES, "_args_": [HOSTILE]},
        {**SHAPES, "_recursive_": False, "size": HOSTILE},
        {**SHAPES, "_partial_": True, "classes": [HOSTILE]},
        {**SHAPES, "_convert_": "object", "preset": HOSTILE},
        {**HOSTILE, "_partial_": True},
        {**HOSTILE, "_recursive_": False},
        {0: HOSTILE},
        (HOSTILE,),
    ],
    ids=str,
)
def test_hydras_other_keys_hide_no_target(node: Any) -> None:
    for place in ("backbone", "model", "data"):
        refuse(stored(**{place: {"extra": node}}), match=r"'torch\.load'.*not on the allowlist")


@pytest.mark.parametrize(
    "node",
    [
        {**SHAPES, "_partial_": True},
        {**SHAPES, "_recursive_": False},
        {**SHAPES, "_convert_": "object"},
        {**SHAPES, "preset": "standard", "_args_": []},
    ],
    ids=str,
)
def test_hydras_other_keys_at_an_allowed_target_make_nothing_else(node: dict[str, Any]) -> None:
    made = make(trusted(stored(data={"train": node})).data.train)
    made = made() if node.get("_partial_") else made
    assert type(made).__name__ == "ShapesDetection"


@pytest.mark.parametrize(
    "key",
    ["_t\u0430rget_", "_TARGET_", " _target_", "_target_ ", "__class__", "__reduce__", "_target", "_\uff54arget_"],
)
def test_a_key_that_only_looks_like_a_target_is_a_name(key: str) -> None:
    assert make(trusted(stored(data={"extra": {key: "os.getcwd"}})).data.extra) == {key: "os.getcwd"}


@pytest.mark.parametrize(
    "text",
    [
        "${}",
        "${",
        "${oc.env:HOME}",
        "${OC.ENV:HOME}",
        "${ oc.env:HOME}",
        "${oc.env :HOME}",
        "${\noc.env:HOME\n}",
        "${\toc.env:HOME}",
        "$${oc.env:HOME}",
        "\\${oc.env:HOME}",
        "\\\\${oc.env:HOME}",
        "'${oc.env:HOME}'",
        "${seed}${oc.env:HOME}",
        "${seed}}${oc.env:HOME}",
        "${seed${oc.env:HOME}}",
        "${${oc.env:HOME}}",
        "${oc.env:${seed}}",
        "${oc.decode:'${oc.env:HOME}'}",
        '${oc.decode:"{_target_: os.system}"}',
        "${oc.create:{_target_:torch.load}}",
        "x${oc.decode:'1'}",
        "${${a}:b}",
        "${oc.select:seed}",
        "${oc.deprecated:seed}",
        "${oc.dict.values:data}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
        "${:x}",
        "${data[train]}",
        "${data.[train]}",
        "${data.tr\u0430in}",  # a Cyrillic a
        "${data.train\u200b}",
        "\uff04${oc.env:HOME}",
        "${.seed:}",
        "${" + "." * 100_000 + "!}",
        "${" * 10_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_no_resolver_is_called(text: str) -> None:
    for changes in (
        {"data": {"preset": text}},
        {"model": {"network": {"_target_": text}}},
        {"data": {"extra": {text: 1}}},
        {"optimizer": [{"deep": text}]},
        {text: 1},
    ):
        refuse(stored(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "${data.dollar}{oc.env:HOME}",
        "${.dollar}{oc.env:HOME}",
        "${data.dollar}${data.brace}oc.env:HOME}",
        "${data.dollar}{oc.create:{_target_:torch.load,f:payload.pt,weights_only:false}}",
        "${data.whole}",
        "\\${data.train}",
        "\\${seed}",
        "\\\\\\${seed}",
    ],
)
def test_no_interpolation_is_left_for_later(text: str) -> None:
    """Pieced together out of plain references, or escaped, a text becomes an interpolation by the first resolving."""
    pieces = {"dollar": "$", "brace": "{", "whole": "${data.dollar}{oc.env:HOME}"}
    for place in ("labels", "preset"):
        refuse(stored(dollar="$", data=pieces | {place: text}))
    for place in ("overfit", "seed"):
        refuse(stored(dollar="$", data=pieces, **{place: text}))


@pytest.mark.parametrize(
    "text",
    ["${evil}", "${data.evil}", "${..evil}", "${optimizer.evil}", "${data.first}.${data.second}", "os.${data.word}"],
)
def test_a_target_is_checked_after_it_is_put_together(text: str) -> None:
    pieces = {"evil": "os.system", "first": "os", "second": "system", "word": "system", "labels": {"_target_": text}}
    config = stored(evil="os.system", optimizer={"evil": "os.system"}, data=pieces)
    refuse(config, match=rf"{REFUSED}|cannot be resolved")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        None,
        [],
        "text",
        {"backbone": {}, "model": {}},
        {"backbone": {}, "model": {}, "data": None},
        {"backbone": {}, "model": {}, "data": "${model}"},
        {"backbone": {}, "model": [], "data": {}},
    ],
    ids=str,
)
def test_what_is_no_configuration_is_refused(broken: Any) -> None:
    refuse(broken, match="has no group")


def endless() -> dict[str, Any]:
    node: dict[str, Any] = {}
    node["again"] = [node]
    return node


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (endless(), "levels deep$"),
        (nested(100, HOSTILE), "levels deep$"),
        (nested(100_000, HOSTILE), "levels deep$"),
        ("${data.extra}", "cannot be resolved"),
        ({"a": "${data.extra.b}", "b": "${data.extra.a}"}, "cannot be resolved"),
        ({"a": "${data}"}, "cannot be resolved"),
        ({"a": "${data.extra}"}, "cannot be resolved"),
        ("${nowhere}", "cannot be resolved"),
        ("${...........seed}", "cannot be resolved"),
        ("${data..train}", "cannot be resolved"),
        ({1, 2}, "cannot be resolved"),
        (OrderedDict(_target_="os.system"), rf"cannot be resolved|{REFUSED}"),
        (torch.zeros(1), "cannot be resolved"),
        (torch.float32, "cannot be resolved"),
        ({(1, 2): 3}, "cannot be resolved"),
        ({None: 3}, "cannot be resolved"),
    ],
    ids=lambda value: repr(value)[:40] if not isinstance(value, list) else "nested",
)
def test_what_does_not_end_or_is_not_plain_is_refused(extra: Any, message: str) -> None:
    refuse(stored(data={"extra": extra}), match=message)


def doubled(levels: int) -> list[Any]:
    node: list[Any] = ["x"]
    for _ in range(levels):
        node = [node, node]
    return node


def chain(count: int, value: str, first: Any = "x") -> dict[str, Any]:
    """k0, k1, ...: each is `value` with the name of the one before."""
    return {"k0": first} | {f"k{i}": value.replace("?", f"k{i - 1}") for i in range(1, count)}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (doubled(28), "more than 100,000 keys and values"),
        ([["x"] * 1000] * 1000, "more than 100,000 keys and values"),
        (chain(40, "${data.extra.?}${data.extra.?}"), "references give more than"),
        (chain(40, "${.?}${.?}"), "references give more than"),
        (chain(40, "${..extra.?}${..extra.?}"), "references give more than"),
        ({"alias": "${data.extra.true}", "true": chain(40, "${data.extra.alias.?}" * 2)}, "references give more than"),
        ({f"k{i}": ["${data.extra.k" + str(i - 1) + "}"] * 2 if i else ["x"] for i in range(40)}, "keys and values"),
        ({f"k{i}": {"a": "${..k" + str(i - 1) + "}", "b": "${..k" + str(i - 1) + "}"} if i else {"a": "x"}
          for i in range(40)}, "keys and values"),
        ({"list": [[f"${{data.extra.list.{i - 1}}}"] * 2 if i else ["x"] for i in range(40)]}, "keys and values"),
        ({"a": "${data.extra.b.c}", "b": "${data.extra.b}"}, "cannot be resolved"),
        ("xy" * 3_000_000, "5,000,000 characters"),
        ({"a": "${data.extra.b}" * 2, "b": "${data.extra.a}" * 2}, "cannot be resolved"),
        ({"a": "${data}", "b": "${data}"}, "cannot be resolved"),
        (chain(2000, "${.?}"), "cannot be resolved"),
    ],
)  # fmt: skip
def test_what_grows_without_limit_is_refused(extra: Any, message: str) -> None:
    start = time.monotonic()
    refuse(stored(data={"extra": extra}), match=message)
    assert time.monotonic() - start < 5


def test_as_many_values_as_are_allowed_take_seconds() -> None:
    """In a group that is not used, and among references to them; OmegaConf alone took 13 s."""
    values = {f"k{i}": [1] * 9 for i in range(1400)}
    start = time.process_time()
    found = trusted(
        stored(
            zz=values,
            data={"extra": values, "also": "${data.extra}", "length": "${data.extra.k7.3}", "name": "a${zz.k0.0}"},
        )
    )
    assert (found.data.length, found.data.name, found.data.also.k99) == (1, "a1", [1] * 9)
    assert time.process_time() - start < 5


def test_references_of_any_kind_keep_working() -> None:
    extra = chain(5, "${.?}${.?}") | {
        "all": "${..train}",
        "list": [1, 2],
        "second": "${.list.1}",
        "way": "${data.extra}",
    }
    del extra["way"]
    found = trusted(stored(data={"extra": extra, "train": SHAPES})).data.extra
    assert (found.k4, found.second, found.all.length) == ("x" * 16, 2, 1)


@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"labels": {"_target_": "${data.root}.system"}}, {"root": "os"}),
        ({"labels": {"_target_": "${data.root}"}}, {"root": "os.system"}),
        ({"preset": "${data.root}{oc.env:HOME}"}, {"root": "$"}),
        ({"labels": "${optimizer}"}, {"root": "x"}),
        ({"root": HOSTILE, "labels": HOSTILE}, {"root": "x"}),
        ({}, {"root": HOSTILE}),
    ],
    ids=str,
)
def test_the_users_own_keys_carry_nothing_in(change: dict[str, Any], data: dict[str, Any]) -> None:
    refuse(stored(optimizer=HOSTILE, data={"root": "?", **change}), data=data)


def test_the_users_own_keys_may_ask_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENES", "9")
    assert trusted(stored(), data={"num_val": "${oc.decode:${oc.env:SCENES}}"}).data.val.length == 9
    assert trusted(stored(data={"root": HOSTILE}), data={"root": Path("x")}).data.root == Path("x")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.py", "raise SystemExit", "unknown extension"),
        ("classes.txt", "__import__('os').abort()", None),
        ("classes.json", '["${oc.env:HOME}"]', None),
        ("classes.json", '{"_target_": "os.abort"}', "not a class list"),
        ("classes.json", '[{"_target_": "os.abort"}]', "not a class list"),
        ("classes.json", "[" * 100_000, "not a class list|RecursionError"),
        ("classes.csv", "name,id\n=cmd(),0", None),
    ],
)
def test_files_that_allowed_targets_read_are_only_read(
    tmp_path: Path, name: str, content: str, message: str | None
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "train" / folder).mkdir(parents=True)
        (tmp_path / "train" / folder / "a.png").touch()
    (tmp_path / name).write_text(content)
    target = "pocketvision.datasets.mask_folder.MaskFolder"
    reader = {"_target_": target, "root": str(tmp_path), "classes": str(tmp_path / name)}
    node = trusted(stored(data={"train": reader})).data.train
    if message is None:
        assert list(make(node).labels.names) == [0]
    else:
        with pytest.raises(Exception, match=message):
            make(node)


@pytest.mark.parametrize(
    "name", ["${nowhere}", "${oc.env:HOME}", "${oc.create:{_target_:os.getcwd}}", {"_target_": "os.getcwd"}], ids=str
)
def test_names_of_classes_are_names(name: Any) -> None:
    """They come out of checkpoints and data sets. Hydra would call what is in them."""
    for kind, slot in (("detection", 1), ("segmentation", 0)):
        labels = LabelMap((Label(slot, name, 1, category="${oc.env:HOME}"),), 1)
        names = task_parts(compose(f"experiment=demo_{kind}").model, labels)["metric"].names
        assert names in ({slot: name}, [name])


def test_a_number_of_classes_is_a_number() -> None:
    number: Any = {"_target_": "os.getcwd"}
    with pytest.raises(ValueError, match="SSDLite"):
        build_task(composed(), labels=LabelMap((), number))
