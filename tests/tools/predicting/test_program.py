"""A torch.export file runs no code of whoever made it: whatever torch would unpickle, import or evaluate is refused."""

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import ExportConfig
from pocketvision.tools.export import check
from pocketvision.tools.exporting.writers import make_writer
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.predicting.runtimes import open_file
from pocketvision.tools.runs.loaded import load_run

ABOUT = {"format": "torch_export", "task": "", "config": "", "precision": "fp32", "interface": "", "labels": ""}
PROGRAM, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
Members = dict[str, bytes]


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("CODE_RAN",)


EVIL = pickle.dumps(Evil(), protocol=2)


@pytest.fixture(scope="module")
def members(trained_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The parts of a file that a run was exported to."""
    run = load_run(trained_run("classification"))
    path, interface = tmp_path_factory.mktemp("program") / "model.pt2", make_interface(run, input="network")
    make_writer("torch_export", run, interface).write(interface, path, ABOUT)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return path


def in_json(member: str, change: Callable[[Any], object]) -> Callable[[Members], None]:
    def changed(members: Members) -> None:
        content = json.loads(members[member])
        change(content)
        members[member] = json.dumps(content).encode()

    return changed


def in_program(change: Callable[[Any], object]) -> Callable[[Members], None]:
    return in_json(PROGRAM, lambda program: change(program["graph_module"]))


def member(name: str, content: bytes = EVIL) -> Callable[[Members], None]:
    return lambda members: members.update({name: content})


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def entries(config: Any, **changes: Any) -> None:
    next(iter(config["config"].values())).update(changes)


def call(graph_module: Any) -> Any:
    return graph_module["module_call_graph"][0]["signature"]


CODE = "__import__('os').mkdir('CODE_RAN')"
SYMBOL = {"as_expr": {"expr_str": CODE, "hint": None}}


def test_it_opens_and_holds_no_pickle(members: Members, in_tmp_path: Path) -> None:
    assert members[SAMPLES] == b""
    assert not [name for name, content in members.items() if content.startswith((b"\x80", b"PK"))]
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8).numpy()
    expected = open_file(written(in_tmp_path / "a.pt2", members)).run(image)
    earlier = {**members, SAMPLES: saved(((torch.zeros(1),), {}))}  # as written before
    found = open_file(written(in_tmp_path / "b.pt2", earlier)).run(image)
    assert all((found[name] == value).all() for name, value in expected.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (member(SAMPLES), "sample inputs that are not tensors"),
        (member(SAMPLES, saved(Evil())), "sample inputs that are not tensors"),
        (member("data/weights/model.pt", saved(Evil())), "holds 'data/weights/model.pt'"),
        (member("data/constants/custom_obj_0"), "holds 'data/constants/custom_obj_0'"),
        (member("data/constants/opaque_obj_0"), "holds 'data/constants/opaque_obj_0'"),
        (member("data/aotinductor/model/x.so"), "holds 'data/aotinductor"),
        (member("models/other.json"), "holds 'models/other.json'"),
        (member("data/weights/../weight_0"), "holds 'data/weights/"),
        (in_json(WEIGHTS, lambda config: entries(config, use_pickle=True)), "pickled weights"),
        (in_json(CONSTANTS, lambda config: entries(config, use_pickle=1)), "pickled weights or constants"),
        (in_json(CONSTANTS, lambda config: entries(config, path_name="opaque_obj_0")), "constants .opaque_obj_0"),
        (in_json(WEIGHTS, lambda config: entries(config, path_name="../x")), "has the name '../x'"),
        (in_json(WEIGHTS, lambda config: next(iter(config["config"].values()))["tensor_meta"].update(
            sizes=[{"as_int": 10**12}])), "fewer numbers in weight_0"),
        *((in_program(lambda part, target=target: part["graph"]["nodes"][0].update(target=target)), "calls '")
          for target in ("torch.os.mkdir", "torch.hub.load", "torch.ops.aten.from_file.default", "_operator.call",
                         "#x:y", "torch.ops.higher_order.cond", "torch.ops.aten.add.Tensor.__class__", "math.os")),
        (in_program(lambda part: part["graph"]["nodes"][0]["inputs"][0].update(arg={"as_operator": "torch.os.mkdir"})),
         "has as_operator"),
        (in_program(lambda part: part["graph"]["nodes"][0].update(name=f"x = {CODE}")), "has the name .x = "),
        (in_program(lambda part: part["graph"]["inputs"][0].update(as_tensor={"name": f"x=({CODE})"})), "has the name"),
        (in_program(lambda part: part["graph"]["tensor_values"].update({CODE: {}})), "has the name"),
        (in_program(lambda part: next(iter(part["graph"]["tensor_values"].values())).update(sizes=[SYMBOL])),
         "has the expression"),
        (in_program(lambda part: call(part).update(forward_arg_names=[f"photo=({CODE})"])), "has the name .photo="),
        (in_program(lambda part: call(part).update(in_spec=json.dumps([1, {
            "type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "evil:X", "name": "x"}]',
            "children_spec": []}]))), "has the name {'__enum__'"),
        (in_program(lambda part: call(part).update(out_spec=json.dumps([1, {
            "type": "collections.defaultdict", "context": "null", "children_spec": []}]))), "arguments of the type"),
        (in_program(lambda part: part["graph"].update(custom_obj_values={"x": {"name": "x", "class_fqn": "y()"}})),
         "has the name"),
    ],
)  # fmt: skip
def test_files_of_others_are_refused(
    change: Callable[[Members], None], message: str, members: Members, in_tmp_path: Path
) -> None:
    changed = dict(members)
    change(changed)
    with pytest.raises(ValueError, match=rf"a\.pt2 .*{message}.*: export the run again with pocketvision export"):
        open_file(written(in_tmp_path / "a.pt2", changed))
    assert not Path("CODE_RAN").exists()


def test_guards_are_not_run(members: Members, in_tmp_path: Path) -> None:
    changed = dict(members)
    in_json(PROGRAM, lambda program: program.update(guards_code=[CODE]))(changed)
    open_file(written(in_tmp_path / "a.pt2", changed))
    assert not Path("CODE_RAN").exists()


def test_a_flipped_bit_is_noticed(members: Members, in_tmp_path: Path) -> None:
    path = written(in_tmp_path / "a.pt2", members)
    content = bytearray(path.read_bytes())
    content[content.index(members["data/weights/weight_0"]) + 10] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt2 is damaged: the checksum of model/data/weights/weight_0 is wrong"):
        open_file(path)


def test_files_of_earlier_torch_are_told(tmp_path: Path) -> None:
    names = ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt", "version")
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        for name in (*names, "extra_files/pocketvision.json"):
            archive.writestr(name, EVIL)
    with pytest.raises(ValueError, match=r"a\.pt2 is of a torch before 2\.8, .*: export the run again with"):
        open_file(tmp_path / "a.pt2")


@pytest.mark.parametrize("version", ["2.6.0", "2.7.1+cu126"])
def test_earlier_torch_is_told(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    (tmp_path / "a.pt2").touch()
    with pytest.raises(ValueError, match=rf"file=\S*a\.pt2 needs torch 2\.8 or later, but {re.escape(version)} is"):
        open_file(tmp_path / "a.pt2")
    with pytest.raises(ValueError, match=r"format=torch_export needs torch 2\.8 or later"):
        check(ExportConfig(format="torch_export"))
