"""The command line: awkward paths, and one clear line for a mistake."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from pocketvision.__main__ import main
from pocketvision.tools.config.command import command, explain, quote_arguments
from pocketvision.tools.config.settings import missing_keys
from pocketvision.tools.system.console import log, logged_to

AWKWARD = [
    "IMG (1).jpg",
    "a,b.jpg",
    "a=b.jpg",
    "über.jpg",
    "it's.jpg",
    "x[1].png",
    "a:b {c}.png",
    "50%.jpg",
    "${z}.jpg",
]


def value_of(override: str) -> object:
    value = OverridesParser.create().parse_override(override).value()
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_arrive_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    (override,) = quote_arguments([name], "inputs")
    assert value_of(override) == [name]
    (override,) = quote_arguments([f"weights={tmp_path / name}"], None)
    assert value_of(override) == str(tmp_path / name)


def test_overrides_flags_and_paths_are_told_apart() -> None:
    found = quote_arguments(["run=runs/x", "--cfg", "job", "--help", "photo.jpg", "data.input_size=[3,4]"], "inputs")
    assert found == ["run=runs/x", "data.input_size=[3,4]", "inputs=['photo.jpg']", "--cfg", "job", "--help"]


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["--cfg", "job", "a=1"], ["--cfg", "job"]),
        (["--info", "defaults"], ["--info", "defaults"]),
        (["--info", "a=1"], ["--info"]),
        (["--config-dir", "my/conf"], ["--config-dir", "my/conf"]),
        (["--multirun", "a=1,2"], ["--multirun"]),
    ],
)
def test_hydras_flags_keep_their_values(arguments: list[str], flags: list[str]) -> None:
    found = quote_arguments(arguments, None)
    assert found[len(found) - len(flags) :] == flags
    assert all("=" in each for each in found[: len(found) - len(flags)])


def test_a_command_with_one_positional() -> None:
    assert quote_arguments(["runs/x", "split=train"], "run") == ["split=train", "run='runs/x'"]


def test_missing_keys_are_found_without_resolving() -> None:
    assert missing_keys(OmegaConf.create({})) == []
    config = OmegaConf.create({"a": "???", "b": {"c": "${a}", "d": "???"}, "e": ["???"]})
    assert missing_keys(config) == ["a", "b.d"]
    assert missing_keys(config.b, "x") == ["x.d"]


def test_a_workers_error_is_reduced_to_its_message() -> None:
    error = ValueError(
        "Caught ValueError in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "x.py", line 3\nValueError: photo.jpg does not decode\n'
    )
    assert explain(error) == "photo.jpg does not decode"


def test_an_error_without_words_is_named_by_its_kind() -> None:
    wrapped = InstantiationException("Error in call to target\nfull_key: data.train")
    wrapped.__cause__ = AssertionError()
    assert [explain(error) for error in (wrapped, ValueError(" "))] == ["AssertionError (at data.train)", "ValueError"]


def test_a_dead_loader_is_told_with_a_remedy() -> None:
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert "try fewer workers=" in explain(error)


def test_a_process_ends_with_the_status_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pocketvision", "evaluate", "run=no/such/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("pocketvision evaluate: error: no/such/run does not exist")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 0, "usage: pocketvision COMMAND"),
        (("trian",), 2, "unknown command 'trian'; did you mean train?"),
        (("train", "experiment=ssdlite_coco"), 2, "data.root=..."),
        (("train", "experiment=ssdlite_coco", "data.root=/no/such"), 2, "/no/such"),
        (("train", "experiment=demo_detection", "epohcs=3"), 2, "unknown key 'epohcs'; did you mean epochs?"),
        (("train", "backbone.widht=1"), 2, "unknown key 'backbone.widht'; did you mean backbone.width?"),
        (("train", "experiment=demo_detection", "model.criterion.gama=1"), 2, "did you mean model.criterion.gamma?"),
        (("train", "backbone.widht=1", "epohcs=3"), 2, "unknown key 'backbone.widht' (--help all lists all keys)"),
        (("train", "experiment=demo_detectoin"), 2, "did you mean demo_detection?"),
        (("train", "experimnt=demo_detection"), 2, "unknown key 'experimnt'; did you mean experiment?"),
        (("export", "publik=espnet"), 2, "unknown key 'publik'; did you mean public?"),
        (("train", "model/criterion=alignd"), 2, "model/criterion=alignd is not an option; did you mean aligned?"),
        (("train", "model/criteron=focal"), 2, "unknown key 'model/criteron'; did you mean model/criterion?"),
        (("train", "experiment=demo_detection", "data.num_train=64", "optimizer.lr=abc"), 2, "optimizer.lr=abc"),
        (("train", "experiment=demo_detection", "data.num_train=64", "+optimizer.foo=1"), 2, "argument 'foo'"),
        (("train", "experiment=demo_detection", "epochs=0"), 2, "epochs=0: expected 1 or more"),
        (("train", "experiment=demo_detection", "epochs=ten"), 2, "'ten'"),
        (("check-data", "experiment=demo_detection", "examples=-1"), 2, "examples=-1: expected 0 or more"),
        (("browse", "experiment=demo_detection", "count=-5"), 2, "count=-5: expected 1 or more"),
        (("info", "experiment=demo_detection", "input_size=[0,5]"), 2, "input_size=[0, 5]: expected two positive"),
        (("compare", "a", "b", "samples=0"), 2, "samples=0: expected 1 or more"),
        (("evaluate", "run=runs/x", "score_threshold=50"), 2, "score_threshold=50.0: expected a number from 0 to 1"),
        (("train", "experiment=demo_detection", "precision=int8"), 2, "'int8'"),
        (("train", "experiment=demo_detection", "schedule.name=cosin"), 2, "'cosin'"),
        (("train", "schedule.every_epoch=3"), 2, "did you mean schedule.every_epochs?"),
        (("train", "backbone=mobilenet_v9"), 2, "backbone=mobilenet_v9 is not an option"),
        (("train", "experiment=demo_detection", "device=foo"), 2, "device=foo"),
        (("train", "experiment=demo_detection", "device=0"), 2, "device=cuda:0 for this GPU"),
        (("evaluate", "run=runs/x", "bootstrp=200"), 2, "unknown key 'bootstrp'; did you mean bootstrap?"),
        (("evaluate", "run=no/such/run"), 2, "no/such/run does not exist"),
        (("evaluate",), 2, "set run=FOLDER"),
        (("compare", "page=a.html"), 2, "name the folders of evaluated runs"),
        (("compare", "no/such", "page=a.html"), 2, "write it with pocketvision evaluate run=no/such report=true"),
        (("predict", "run=no/such/run", "no.jpg"), 2, "no.jpg"),
        (("info", "model=lraspp"), 2, "model is for segmentation"),
        (("train", "imgsz=640"), 2, "unknown key 'imgsz': it is called data.input_size here"),
        (("predict", "conf=0.3", "x.jpg"), 2, "unknown key 'conf': it is called score_threshold here"),
        (("train", "conf=0.3"), 2, "unknown key 'conf': it is called score_threshold in pocketvision evaluate"),
        (("train", "experiment=demo_segmentation", "iou=0.5"), 2, "unknown key 'iou' (--help all"),
        (("predict", "run=runs/x", "max_det=5", "x.jpg"), 2, "unknown key 'max_det' (--help all"),
        (("train", "experiment=demo_detection", "data.samples_per_gpu=2"), 2, "it is called batch_size here"),
        (("train", "experiment=demo_detection", "train_cfg.max_epochs=12"), 2, "it is called epochs here"),
        (("train", "resume=True"), 2, "run the same command again"),
        (("train", "exist_ok=True"), 2, "choose another name= to start over"),
        (("train", "-m", "hydra/launcher=rq", "name=a,b"), 2, "pip install hydra-rq-launcher"),
        (
            ("train", "experiment=small_detection", "model=lraspp"),
            2,
            "use experiment=small_segment",
        ),
        (
            ("train", "experiment=small_segmentation", "data=coco"),
            2,
            "use experiment=small_detection",
        ),
        (
            ("info", "experiment=paper/table7/row8", "model=ssdlite"),
            2,
            "row8 is for segmentation, but",
        ),
        (("train", "experiment=small_detection", "model=lraspp", "data=camvid"), 2, "model=lraspp is for segmentation"),
        (("train", "--test-only"), 2, "use pocketvision evaluate run=RUN"),
        (("train", "--cfg-options", "a=1"), 2, "write the keys themselves, as KEY=VALUE"),
        (("train", "model=yolov8n.yaml"), 2, "write experiment=small_detection or"),
        (("train", "model=lraspp_mobilenet_v3_large"), 2, "write model=lraspp_torchvision weights=torchvision"),
        (("train", "data=coco128.yaml"), 2, "write data=yolo data.root=coco128.yaml"),
        (("train", "data=boxes.json"), 2, "write data=coco_json data.train_json=boxes.json data.images=FOLDER"),
        (("train", "model=ssd.pt"), 2, "write weights=ssd.pt"),
        (("train", "optimizer=AdamW"), 2, "did you mean adamw?"),
        (("train", "--epochs", "5"), 2, "unknown option --epochs: keys have no dashes, write epochs=VALUE"),
        (("train", "--batch-size=4"), 2, "write batch_size=4"),
        (("train", "--lr", "0.1"), 2, "write optimizer.lr=VALUE"),
        (
            ("train", "experiment=small_segmentation", "data.classes={a: 0}"),
            2,
            "data.classes={'a': 0}: expected a list",
        ),
        (("train", "data=null"), 2, "data=null: expected the name of a choice"),
        (("predict", "run=no/run", "~/no.jpg", "output='${HOME}/o'"), 2, "no such file or folder: /"),
        (("train", "epochs", "=", "5"), 2, "'epochs' is not KEY=VALUE, without spaces around the equals sign"),
    ],
)
def test_commands_say_what_is_wrong_in_words(
    arguments: tuple[str, ...], code: int, told: str, in_tmp_path: Path, logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In this process, which is started already, and in a folder without runs: here may be those of `make demo`."""
    monkeypatch.setattr(sys, "argv", ["pocketvision", *arguments])
    found = 0
    try:
        main()
    except SystemExit as stop:
        found = stop.code
    printed = "".join(capsys.readouterr())
    assert found == code, printed
    assert told in printed
    assert "Traceback" not in printed


def test_a_launchers_process_has_the_log(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    logged: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It calls the job without main(), so nothing has set the log up."""
    jobs: list[Callable[[DictConfig], None]] = []
    monkeypatch.setattr(hydra, "main", lambda **_: lambda job: lambda: jobs.append(job))
    command("info", lambda config: log.info("a line of %s", config.name), needs_data=False)([])
    log.handlers = []
    jobs[0](OmegaConf.create({"name": "x"}))
    assert capsys.readouterr().out == "a line of x\n"


def test_every_run_of_a_sweep_has_its_own_log(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    logged: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    options = "data.num_train=4 data.num_val=2 data.input_size=[64,64] backbone.width=0.35 batch_size=4 max_steps=1"
    more = "experiment=demo_segmentation workers=0 device=cpu"
    monkeypatch.setattr(sys, "argv", ["pocketvision", "train", "-m", "name=a,b", *options.split(), *more.split()])
    main()
    for name in "ab":
        lines = Path(f"runs/{name}/train.log").read_text().splitlines()
        assert "4 training images" in "\n".join(lines)
        assert lines[-1].endswith(f"next: pocketvision evaluate run=runs/{name}")
        assert all(other not in line for line in lines for other in {"runs/a", "runs/b"} - {f"runs/{name}"})


def test_a_log_file_begins_with_its_run(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    file, once = tmp_path / "train.log", tmp_path / "config.yaml"
    with logged_to(file, once=once):
        log.info("before")
        assert not file.exists()
        once.touch()
        log.info("after")
    log.info("later")
    assert [line.split(" ", 2)[2] for line in file.read_text().splitlines()] == ["before", "after"]
