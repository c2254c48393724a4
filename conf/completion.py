"""Shell completion scripts for commands, keys, groups and their choices."""

import sys
from collections.abc import Callable

from .help import title
from .keys import choices_of, groups_of, keys_in, keys_of
from .schema import CONFIGS

BASH = """\
# pocketvision for bash: eval "$(pocketvision completion bash)" in ~/.bashrc
_pocketvision() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" word command words
    word="${{line##*[[:space:]]}}"
    read -r _ command _ <<< "$line"
    if [[ "$command" == "$word" ]]; then
        words="{commands}"
    else
        case "$command" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [[ ${{#COMPREPLY[@]}} -eq 1 && "${{COMPREPLY[0]}}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
    # bash starts a new word at =, so the part before it must not be completed again
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then COMPREPLY=("${{COMPREPLY[@]#"${{word%%=*}}="}}"); fi
}}
complete -o default -F _pocketvision pocketvision"""

ZSH = """\
#compdef pocketvision
# pocketvision for zsh: eval "$(pocketvision completion zsh)" in ~/.zshrc, after compinit
_pocketvision() {{
    local found
    if (( CURRENT == 2 )); then
        found="{commands}"
    else
        case "$words[2]" in
{cases}
        esac
    fi
    compadd -S '' -- ${{=found}} || _files
}}
compdef _pocketvision pocketvision"""

FISH_COMMAND = "complete -c pocketvision -n __fish_use_subcommand -f -a '{commands}'"
FISH_KEYS = "complete -c pocketvision -n '__fish_seen_subcommand_from {command}' -a '{words}'"


def words_of(command: str) -> list[str]:
    """Words that may follow a command: `key=`, `key=choice`, `group=choice`, `group.key=`."""
    groups = groups_of(command)
    found = [f"{key.name}={choice}" for key in keys_of(CONFIGS[command]) for choice in key.choices or [""]]
    for group in groups:
        found += [f"{group}={choice}" for choice in choices_of(group)]
        found += [f"{group}.{key}=" for key in keys_in(group) if group not in ("experiment", "public", "mode")]
    return [*dict.fromkeys(word for word in found if word.rstrip("=") not in groups), "--help", "--cfg"]


def _bash(words: dict[str, list[str]]) -> str:
    cases = "\n".join(f'            {name}) words="{" ".join(found)}" ;;' for name, found in words.items())
    return BASH.format(commands=" ".join(words), cases=cases)


def _zsh(words: dict[str, list[str]]) -> str:
    cases = "\n".join(f'            {name}) found="{" ".join(found)}" ;;' for name, found in words.items())
    return ZSH.format(commands=" ".join(words), cases=cases)


def _fish(words: dict[str, list[str]]) -> str:
    lines = [FISH_KEYS.format(command=name, words=" ".join(found)) for name, found in words.items()]
    return "\n".join([FISH_COMMAND.format(commands=" ".join(words)), *lines])


SHELLS: dict[str, Callable[[dict[str, list[str]]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def script(arguments: list[str]) -> str:
    """The script for the shell named in the arguments.

    Raises:
        SystemExit: the arguments name no supported shell.
    """
    usage = f"usage: pocketvision completion {'|'.join(SHELLS)}"
    if arguments in (["-h"], ["--help"]):
        return usage
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        print(f"{usage}; got {' '.join(arguments) or 'nothing'}", file=sys.stderr)
        raise SystemExit(2)
    words = {title(name): words_of(name) for name in CONFIGS}
    words |= {"help": [*words], "completion": [*SHELLS]}
    return SHELLS[arguments[0]](words)
