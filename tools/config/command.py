"""Shared by every command: paths on the command line, one clear line for a user's error, logging."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from ...conf.help import asked
from ...conf.keys import groups_of
from ...conf.schema import CONFIGS
from ...dependencies import explained as package_error
from ..system.console import configure_logging, log, printable
from ..system.memory import keep_freed_memory
from .build import compose, register_schemas
from .overrides import other_task, with_implied
from .settings import missing_keys
from .synonyms import instead_of_option, our_choice, our_keys, our_sentence
from .values import normalize, taken_by

Job = Callable[[DictConfig], Any]
# Hydra's own.
_FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-path", "-cp", "--config-name", "-cn",
                     "--config-dir", "-cd", "--experimental-rerun")  # fmt: skip
_FLAGS = {*_FLAGS_WITH_VALUE, "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun",
          "-m", "--shell-completion", "-sc"}  # fmt: skip
_OVERRIDE = re.compile(r"^[~+]{0,2}[A-Za-z_][\w./@:-]*=")


def command(config_name: str, job: Job, *, positional: str | None = None, open_group: str | None = None,
            needs_data: bool = True) -> Callable[..., None]:  # fmt: skip
    """A `main(argv=None)` that composes conf/`config_name`.yaml and runs `job` on it.

    Args:
        positional: the key that collects arguments without a key (paths), e.g. `inputs` or `run`.
        open_group: a key whose own keys are known only to the job, which checks them itself.
        needs_data: whether required keys that are not set (`data.root`) are an error.
    """
    title = config_name.replace("_", "-")

    def guarded(config: DictConfig) -> None:
        if not log.handlers:  # a launcher's process, which has not passed main()
            configure_logging()
        try:
            normalize(config)
            if needs_data and (missing := missing_keys(config)):
                raise ValueError(
                    "required: " + ", ".join(f"{key}=..." for key in missing) + f" (see pocketvision {title} --help)"
                )
            keep_freed_memory()
            if config.get("threads"):
                torch.set_num_threads(config.threads)
            job(config)
        except KeyboardInterrupt:
            print(f"\npocketvision {title}: interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception as error:
            package = package_error(error)
            if os.environ.get("POCKETVISION_TRACEBACK") or not (package or _is_users(error)):
                raise
            _tell(title, package or explain(error))
            raise SystemExit(2) from None

    def main(argv: Sequence[str] | None = None) -> None:
        arguments = list(sys.argv[1:] if argv is None else argv)
        if (text := asked(config_name, arguments)) is not None:
            print(text)
            return
        try:
            arguments = quote_arguments(arguments, positional, known=_known_keys("", (), config_name))
            if wrong := other_task(arguments):
                raise ValueError(wrong)
        except ValueError as error:
            _refuse(title, str(error))
        arguments = with_implied(arguments, config_name)
        if open_group:
            arguments = [f"++{a}" if a.startswith(f"{open_group}.") else a for a in arguments]
        sys.argv = [f"pocketvision {title}", *arguments]
        register_schemas()
        configure_logging()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them with its own advice
        try:
            hydra.main(version_base="1.3", config_path="pkg://pocketvision.conf", config_name=config_name)(guarded)()
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # of composing: guarded() has all others
            if os.environ.get("POCKETVISION_TRACEBACK"):
                raise
            _refuse(title, explain_composition(error, arguments, config_name))

    return main


def _tell(title: str, text: str) -> None:
    rank = os.environ.get("RANK", "0")
    where, start = ("", "") if rank == "0" else (f" (rank {rank})", "\n")  # rank 0 may have drawn a bar
    tqdm.write(f"{start}pocketvision {title}: error{where}: {printable(text)}", file=sys.stderr)


def _refuse(title: str, text: str) -> NoReturn:
    print(f"pocketvision {title}: error: {printable(text)}", file=sys.stderr)
    raise SystemExit(2) from None


def quote_arguments(arguments: Sequence[str], positional: str | None, *, known: Collection[str] = ()) -> list[str]:
    """Arguments in Hydra's grammar, so that `IMG (1).jpg`, `a,b.jpg` and `a=b.jpg` are paths and not expressions.

    An argument is a path if it exists or is not a `key=value`; special values are quoted.

    Args:
        known: the command's keys, for the error about an option.

    Raises:
        ValueError: an option that is none of Hydra's, or an argument that is neither a key nor a path.
    """
    flags: list[str] = []  # Hydra's own: --cfg job, --multirun; they must not stand between overrides
    paths: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        argument = argument.replace("${HOME}", "$HOME")  # which no shell has replaced, in single quotes
        is_override = bool(_OVERRIDE.match(argument)) and not (positional and Path(argument).exists())
        if flags[-1:] and flags[-1] in _FLAGS_WITH_VALUE and not is_override:
            flags.append(argument)
        elif argument.startswith("-") and not Path(argument).exists():
            if argument.partition("=")[0] not in _FLAGS:
                raise ValueError(f"unknown option {argument}: {instead_of_option(argument, known)}")
            flags.append(argument)
        elif is_override or (argument.startswith("~") and not argument.startswith("~/")):
            overrides.append(_quote_value(argument))
        elif positional is None:
            raise ValueError(f"{argument!r} is not KEY=VALUE, without spaces around the equals sign")
        else:
            paths.append(argument)
    if positional and paths:
        value = "[" + ",".join(_quoted(path) for path in paths) + "]" if positional.endswith("s") else _quoted(paths[0])
        overrides.append(f"{positional}={value}")
        if not positional.endswith("s") and len(paths) > 1:
            raise SystemExit(f"expected one {positional}, got {paths}")
    return [*overrides, *flags]


def _quoted(text: str) -> str:
    """`text` in single quotes; inside them Hydra reads backslashes literally, except before a quote and at the end."""
    text = text.replace("'", "\\'").replace("${", "\\${")  # a literal name, not an interpolation
    return f"'{text}\\'" if text.endswith("\\") else f"'{text}'"


def _quote_value(argument: str) -> str:
    """Quote the value of `key=value` if it is an existing path or Hydra cannot parse it."""
    key, equals, value = argument.partition("=")
    if not equals or not value or value[0] in "'\"[{$":
        return argument
    special = not re.fullmatch(r"[\w./@:+-]*", value, re.ASCII)
    if special and (Path(value).exists() or not _parses(argument)):
        return f"{key}={_quoted(value)}"
    return argument


def _parses(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def explain_composition(error: BaseException, arguments: Sequence[str], config_name: str) -> str:
    """What is wrong with an override, without Hydra's advice about its own syntax."""
    text = f"{error}\n{error.__cause__ or ''}"
    unknown = re.search(r"Key '([^']+)' (?:is )?not in", text)
    unknown = unknown or re.match(r"Could not override '([^']+)'\. No match in the defaults list", text)
    if unknown and unknown[1] not in groups_of(config_name):
        full = re.search(r"full_key: (\S+)", text)
        group = full[1].rpartition(".")[0] if full else ""
        prefix = f"{group}." if group else ""
        known = _known_keys(group, arguments, config_name)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else ""
        hint = _of_another_tool(f"{prefix}{unknown[1]}", arguments, config_name) or hint
        return f"unknown key '{prefix}{unknown[1]}'{hint} (--help all lists all keys)"
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        # Groups may be nested (model/criterion) and choices in folders (experiment=paper/...): Hydra's text says which.
        told = re.search(r"Available options in '([^']+)'", text)
        group = told[1] if told else str(error.missing_cfg_file).partition("/")[0]
        choice = str(error.missing_cfg_file).removeprefix(f"{group}/")
        options = list(error.options or [])
        near = difflib.get_close_matches(choice.lower(), sorted(options, key=lambda name: name != choice.lower()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if plugin := re.fullmatch(r"hydra/(launcher|sweeper)", group):
            hint = f"; if it is a plugin of Hydra's, install it: pip install hydra-{choice}-{plugin[1]}"
        elif ours := our_choice(group, choice):
            hint = f"; write {ours}"
        return f"{group}={choice} is not an option{hint} (choose one of {', '.join(options)})"
    if "No match in the defaults list" in text and (wrong := other_task(arguments, ("model",))):
        return wrong
    if "Got NoneType" in text and (null := [a for a in arguments if re.fullmatch(r"[\w/]+=null", a)]):
        return f"{null[0]}: expected the name of a choice (--help lists them)"
    merged = re.match(r"Error merging override (([\w.]+)=.*)", text)
    if merged and (expected := taken_by(merged[2])):
        return f"{merged[1]}: expected {expected}"
    noise = ("To append", "Set the environment", "See https", "full_key", "object_type", "Config search path", "\t")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(noise)]
    return " ".join(lines[:4])


def _known_keys(group: str, arguments: Sequence[str], config_name: str) -> list[str]:
    """The keys of a group ("" is the whole configuration), as selected by the arguments."""
    if not group:
        return [*groups_of(config_name), *(field.name for field in fields(CONFIGS[config_name]))]
    others = [a for a in arguments if _OVERRIDE.match(a) and not a.lstrip("~+").startswith(f"{group}.")]
    try:
        node = OmegaConf.select(compose(*others, config_name=config_name), group)
    except (
        HydraException,
        OmegaConfBaseException,
        ValueError,
    ):  # there is a second error: report this one without a hint
        return []
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def _of_another_tool(unknown: str, arguments: Sequence[str], config_name: str) -> str:
    """What answers a key that another tool has: ours, the command that has it, or what to do instead."""
    keys = [re.split(r"[=@]", a.lstrip("~+"))[0] for a in arguments]
    unknown = next((key for key in keys if key.startswith(f"{unknown}.")), unknown)
    if sentence := our_sentence(unknown):
        return f": {sentence}"
    known, group = _known_keys("", (), config_name), unknown.partition(".")[0]
    others = [a for a, key in zip(arguments, keys, strict=True) if key != unknown]
    names = our_keys(unknown)
    if "." in unknown and group in known:  # another group's key of this name means something else
        names = [ours for ours in names if ours != unknown and ours.partition(".")[0] in (group, ours)]
    for ours in names:
        if ours.partition(".")[0] in known and _may_be_set(ours, others, config_name):
            return f": it is called {ours} here"
    elsewhere = [(ours, name) for ours in names for name in CONFIGS if ours in _known_keys("", (), name)]
    return "".join(f": it is called {ours} in pocketvision {name.replace('_', '-')}" for ours, name in elsewhere[:1])


def _may_be_set(key: str, arguments: Sequence[str], config_name: str) -> bool:
    """Whether the groups that the arguments choose have this key; true where that cannot be told."""
    group, dot, name = key.rpartition(".")
    if not dot:
        return True
    try:
        config = compose(*arguments, config_name=config_name)
        node = OmegaConf.select(config, group)
    except (HydraException, OmegaConfBaseException, ValueError):
        return True
    if isinstance(node, DictConfig):
        return not node or name in node
    return OmegaConf.is_missing(config, key.partition(".")[0])


def _is_users(error: BaseException) -> bool:
    return _is_dead_loader(error) or isinstance(
        error,
        ValueError | OSError | FloatingPointError | InstantiationException | HydraException | OmegaConfBaseException,
    )


def _is_dead_loader(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")  # torch has no class for it


def explain(error: BaseException) -> str:
    """The message that matters: the cause inside Hydra's or a loader worker's wrapper, and the key it concerns.

    An error without words is named by its kind.
    """
    text = str(error).strip() or type(error).__name__
    if isinstance(error, InstantiationException):
        key = re.search(r"full_key: (\S+)", text)
        cause = error.__cause__ or error
        where = f" (at {key[1]})" if key else ""
        return (explain(cause) if cause is not error else text) + where
    if _is_dead_loader(error):
        return (
            f"{text} Often this means out of memory: try fewer workers=. Run the same command again to resume from the "
            "last checkpoint"
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.strerror}: {error.filename}"
    if "Original Traceback" in text:  # raised in a loader worker: take the last `Kind: message`
        return re.split(r"\n\w*(?:Error|Exception): ", text)[-1].strip()
    return text
