"""The completion of bash, zsh and fish, written from one description of the commands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """An option as it is typed, and what it does."""

    name: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A command under all its names; `words` are what may stand behind it besides models."""

    names: tuple[str, ...]
    help: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]
    takes_models: bool


_MODELS = "{program} list 2>/dev/null | awk 'NR > 1 {{ sub(/:latest$/, \"\", $1); print $1 }}'"

_BASH = r"""
_hugging_llama_models() {
    @MODELS@
}

_hugging_llama() {
    local line=${COMP_LINE:0:COMP_POINT} cur command="" flags="" words="" i
    local -a typed=()
    cur=${line##*[[:space:]]}
    # COMP_WORDS is split at colons, too
    read -ra typed <<< "${line%"$cur"}"
    for ((i = 1; i < ${#typed[@]}; i++)); do
        case ${typed[i]} in
            --url) ((i++)) ;;
            -*) ;;
            *) command=${typed[i]}; break ;;
        esac
    done
    case $command in
        "") flags="--url --version --help" words="@COMMANDS@" ;;
@CASES@
    esac
    [[ $cur == -* ]] && words=$flags
    COMPREPLY=()
    while IFS= read -r i; do
        COMPREPLY+=("$i")
    done < <(compgen -W "$words" -- "$cur")
    # bash has split the word at its colons: what stands before the last one is there already
    if [[ $cur == *:* ]]; then
        i=${cur%"${cur##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$i"}")
    fi
}

complete -o default -F _hugging_llama @PROGRAM@
"""

_ZSH = r"""
#compdef @PROGRAM@
_hugging_llama_models() {
    @MODELS@
}

_hugging_llama() {
    local command="" i
    local -a flags choices commands
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            --url) ((i++)) ;;
            -*) ;;
            *) command=$words[i]; break ;;
        esac
    done
    case $command in
        "")
            commands=(
@COMMANDS@
            )
            flags=(--url --version --help)
            ;;
@CASES@
    esac
    if [[ $PREFIX == -* ]]; then
        _describe -o option flags
    elif (( $#commands )); then
        _describe command commands
    elif (( $#choices )); then
        compadd -a choices
    else
        _files
    fi
}

if [[ $funcstack[1] == _hugging_llama ]]; then
    _hugging_llama "$@"
else
    compdef _hugging_llama @PROGRAM@
fi
"""


def bash_script(program: str, commands: Sequence[Described]) -> str:
    """For `eval` in ~/.bashrc."""
    cases = []
    for command in commands:
        words = " ".join([*command.words, *(["$(_hugging_llama_models)"] if command.takes_models else [])])
        flags = " ".join(flag.name for flag in command.flags)
        cases.append(f'        {"|".join(command.names)}) flags="{flags}" words="{words}" ;;')
    names = " ".join(name for command in commands for name in command.names)
    return _filled(_BASH, program, {"COMMANDS": names, "CASES": "\n".join(cases)})


def zsh_script(program: str, commands: Sequence[Described]) -> str:
    """For `eval` in ~/.zshrc, or a file `_hugging-llama` in a folder of $fpath."""
    cases = []
    for command in commands:
        flags = " ".join(_single_quoted(_of_zsh(flag.name, flag.help)) for flag in command.flags)
        choices = [*command.words, *(['${(f)"$(_hugging_llama_models)"}'] if command.takes_models else [])]
        cases.append(f"        {'|'.join(command.names)}) flags=({flags}) choices=({' '.join(choices)}) ;;")
    names = [_single_quoted(_of_zsh(name, command.help)) for command in commands for name in command.names]
    return _filled(
        _ZSH, program, {"COMMANDS": "\n".join(f"                {name}" for name in names), "CASES": "\n".join(cases)}
    )


def fish_script(program: str, commands: Sequence[Described]) -> str:
    """For a file in ~/.config/fish/completions."""
    lines = [
        f"complete -c {program} -f",
        f"complete -c {program} -n __fish_use_subcommand -l url -x -d 'the server'",
    ]
    for command in commands:
        for name in command.names:
            lines.append(
                f"complete -c {program} -n __fish_use_subcommand -a {name} -d {_single_quoted(command.help, fish=True)}"
            )
        seen = f"complete -c {program} -n '__fish_seen_subcommand_from {' '.join(command.names)}'"
        if command.words:
            lines.append(f"{seen} -a '{' '.join(command.words)}'")
        if command.takes_models:
            models = _MODELS.format(program=program)
            lines.append(f"{seen} -a {_single_quoted(f'({models})', fish=True)}")
        for flag in command.flags:
            kind, text = ("-l", flag.name[2:]) if flag.name.startswith("--") else ("-s", flag.name[1:])
            lines.append(f"{seen} {kind} {text} -d {_single_quoted(flag.help, fish=True)}")
    return "\n".join(lines)


def _filled(script: str, program: str, parts: Mapping[str, str]) -> str:
    models = _MODELS.format(program=program)
    for name, text in {"PROGRAM": program, "MODELS": models, **parts}.items():
        script = script.replace(f"@{name}@", text)
    return script.strip()


def _of_zsh(name: str, text: str) -> str:
    return f"{name.replace(':', chr(92) + ':')}:{text}"


def _single_quoted(text: str, *, fish: bool = False) -> str:
    if fish:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + text.replace("'", "'\\''") + "'"


Script = Callable[[str, Sequence[Described]], str]
SCRIPTS: Mapping[str, Script] = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
