"""Shell completion scripts for commands, keys, groups and their choices."""

import sys

from .help import title
from .keys import choices_of, groups_of, keys_in, keys_of_command
from .schema import CONFIGS

BASH = """\
# pocketvision for bash: eval "$(pocketvision completion bash)" in ~/.bashrc
_pocketvision() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" word command found
    word="${{line##*[[:space:]]}}"
    read -r _ command _ <<< "$line"
    if [[ "$command" == "$word" ]]; then
        found="{commands}"
    else
        case "$command" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$found" -- "$word"))
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

CASE = '            {command}) found="{words}" ;;'
FISH = "complete -c pocketvision -n __fish_use_subcommand -f -a '{commands}'\n{cases}"
FISH_CASE = "complete -c pocketvision -n '__fish_seen_subcommand_from {command}' -a '{words}'"
SHELLS = {"bash": (BASH, CASE), "zsh": (ZSH, CASE), "fish": (FISH, FISH_CASE)}  # a script and its line for a command


def words_of(command: str) -> list[str]:
    """Words that may follow a command: `key=`, `key=choice`, `group=choice`, `group.key=`."""
    groups = groups_of(command)
    found = [f"{key.name}={choice}" for key in keys_of_command(command) for choice in key.choices or [""]]
    for group in groups:
        found += [f"{group}={choice}" for choice in choices_of(group)]
        found += [f"{group}.{key}=" for key in keys_in(group) if group not in ("experiment", "public", "mode")]
    return [*dict.fromkeys(word for word in found if word.rstrip("=") not in groups), "--help", "--cfg"]


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
    whole, line = SHELLS[arguments[0]]
    cases = "\n".join(line.format(command=name, words=" ".join(found)) for name, found in words.items())
    return whole.format(commands=" ".join(words), cases=cases)
