"""The list of commands, `--help`, completion and the names of earlier releases: without torch, in no time."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pocketvision import __main__, retired
from pocketvision.conf.completion import script, words_of
from pocketvision.conf.help import command_help, docstring, title, usage
from pocketvision.conf.keys import GROUPS, groups_of, keys_of_command
from pocketvision.conf.listed import LISTED, SECTIONS
from pocketvision.conf.schema import CONFIGS

COMMANDS = [title(name) for name in CONFIGS]


def test_the_list_names_every_command_once_and_no_more_than_fifteen() -> None:
    listed = [line.split()[0] for line in usage().splitlines() if line.startswith("  ") and "pocketvision" not in line]
    assert sorted(listed) == sorted([*COMMANDS, "completion"])
    assert len(COMMANDS) <= 15
    assert [line for line in usage().splitlines() if line in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        *((arguments, usage()) for arguments in ("", "help", "--help", "-h")),
        *((arguments, command_help("train")) for arguments in ("train --help", "train -h", "help train")),
        ("help train all", command_help("train", everything=True)),
        ("train experiment=demo_detection --help all", command_help("train", everything=True)),
    ],
)
def test_help_is_printed(
    arguments: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pocketvision", *arguments.split()])
    __main__.main()
    assert capsys.readouterr().out == expected + "\n"


@pytest.mark.parametrize("name", CONFIGS)
def test_help_begins_with_use_and_the_keys_that_people_set(name: str) -> None:
    about, use, _ = docstring(name)
    assert "\n" not in about
    assert len(about) <= 100
    assert len([line for line in use.splitlines() if f"pocketvision {title(name)}" in line]) == 3
    keys = {key.name: key for key in keys_of_command(name)}
    text = command_help(name)
    often = LISTED[name].often
    assert len(often) <= 10
    assert set(often) <= set(keys) | set(groups_of(name))
    places = [text.index(f"\n  {key}=") for key in often]
    assert places == sorted(places)
    everything = command_help(name, everything=True)
    for key in keys.values():
        assert f"\n  {key.name}" in everything
        words = key.about.split()[:3]
        assert " ".join(words) in " ".join(everything.split())
    for line in text.splitlines():
        assert len(line) <= 120, line


def test_groups_and_their_choices_are_shown_where_a_command_has_groups() -> None:
    text = command_help("train")
    assert "demo_detection, demo_segmentation" in text
    assert "experiment/paper/table6" in text
    assert "aligned, focal, hard_negative" in text
    assert "GROUP=CHOICE" not in command_help("compare")


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("train", {*GROUPS} - {"public"}),
        ("info", {"experiment", "backbone", "model", "model/criterion", "data"}),
        ("import_weights", {"experiment", "backbone", "model", "model/criterion", "data", "public"}),
        ("browse", {"experiment", "backbone", "model", "model/criterion", "data", "augment", "mode"}),
        ("benchmark", {"experiment", "backbone", "model", "model/criterion", "data", "public"}),
        ("convert", {"data"}),
        ("compare", set()),
    ],
)
def test_only_groups_that_a_command_reads_are_shown(command: str, groups: set[str]) -> None:
    assert set(groups_of(command)) == groups
    everything = command_help(command, everything=True)
    assert {group for group in GROUPS if re.search(rf"^  {group}(=|/| )", everything, re.M)} == groups
    assert ("schedule.gamma" in everything) == ("schedule" in groups)


@pytest.mark.parametrize("arguments", [[], *(["--help", name] for name in COMMANDS[:2]), ["completion", "bash"]])
def test_no_help_imports_anything_heavy(arguments: Sequence[str]) -> None:
    command = "import sys; from pocketvision.__main__ import main; main(); print('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded: ")[2].split()
    assert not {"torch", "cv2", "hydra", "omegaconf", "numpy"} & set(loaded)


# ---- completion ------------------------------------------------------------------------------------------


def completed(line: str, tmp_path: Path) -> list[str]:
    """What bash makes of TAB at the end of a line."""
    path = tmp_path / "completion.sh"
    path.write_text(script(["bash"]))
    code = f'source {path}; COMP_LINE="$1"; COMP_POINT=${{#1}}; _pocketvision; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", code, "bash", line], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pocketvision ", {*COMMANDS, "help", "completion"}),
        ("pocketvision tr", {"train"}),
        ("pocketvision train experiment=demo", {"demo_detection", "demo_segmentation"}),
        ("pocketvision train experiment=demo_detection ep", {"epochs="}),
        ("pocketvision train precision=b", {"bf16"}),
        ("pocketvision train data.ro", {"data.root="}),
        ("pocketvision train model/criterion=f", {"focal"}),
        ("pocketvision compare curv", {"curve="}),
        ("pocketvision help exp", {"export"}),
        ("pocketvision completion ", {"bash", "zsh", "fish"}),
        ("pocketvision evaluate experiment=", set()),
        ("pocketvision info optim", set()),  # accepted, because experiments set it, but not read
    ],
)
def test_bash_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    assert set(completed(line, tmp_path)) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shells_script_knows_all_words(shell: str) -> None:
    text = script([shell])
    for name in CONFIGS:
        assert " ".join(words_of(name)) in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("arguments", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        script(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pocketvision completion bash|zsh|fish; got ")


# ---- names of earlier releases ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("report runs/a runs/b output=all.html", "compare runs/a runs/b page=all.html"),
        ("report runs/a", "compare runs/a page=report.html"),
        ("report --help", "compare --help"),
        ("compare-curve RUN REF.json output=x.png", "compare RUN curve=REF.json output=x.png"),
        ("compare-curve runs=[RUN,REF.json]", "compare RUN curve=REF.json"),
        ("compare-curve a b write=c.json", "compare a b write=c.json"),
        ("make-shapes output=city layout=cityscapes size=[256,512]",
         "prepare shapes output=city layout=cityscapes size=[256,512]"),
    ],
)  # fmt: skip
def test_an_old_name_runs_with_its_old_keys(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = old.split()
    found, rest = retired.current_command(name, arguments)
    assert [found, *rest] == new.split()
    told = capsys.readouterr().err
    assert told.startswith(f"deprecated: use pocketvision {found} ")
    assert told.count("\n") == 1


def test_check_resume_says_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        retired.current_command("check-resume", ["kills=2"])
    assert end.value.code == 2
    assert "pytest tests/tools/resume" in capsys.readouterr().err


def test_names_of_today_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert retired.current_command("train", ["epochs=3"]) == ("train", ["epochs=3"])
    assert not capsys.readouterr().err
