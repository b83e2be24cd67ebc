"""The commands inside a chat: `/set`, `/show`, `/bye` and so on."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hugging_llama_cli.commands import create as create_command
from hugging_llama_cli.commands import list as list_command
from hugging_llama_cli.commands import show as show_command
from hugging_llama_cli.conversation import called, parse_format, parse_think, parse_tools
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.parameters import check_name, parse_parameter
from hugging_llama_cli.plain import one_line, printable
from hugging_llama_cli.quoted import unquoted
from hugging_llama_cli.terminal import TextWriter, columns

if TYPE_CHECKING:
    from hugging_llama_cli.repl import Repl

_SET_HELP = (
    ("/set system TEXT", 'set the system message (or open one with """)'),
    ("/set parameter NAME VALUE", "set a parameter, such as temperature 0.2"),
    ("/set think [LEVEL] | nothink", "let the model reason first"),
    ("/set thinking | nothinking", "show the reasoning, or fold it into a line"),
    ("/set verbose | quiet", "print times and rates after each reply"),
    ("/set format json | noformat", "ask for JSON (also: a schema, or a file with one)"),
    ("/set tools FILE | notools", "tools that the model may call; you say what they answer"),
    ("/set markdown | plain", "show Markdown as it is meant, or as it is written"),
    ("/set wordwrap | nowordwrap", "wrap words at the terminal's width"),
    ("/set history | nohistory", "remember what you type"),
)
_SHOW_HELP = (
    ("/show [info]", "show the model"),
    ("/show TEXT", "license, modelfile, parameters, system, template"),
    ("/show thinking", "the reasoning before the last reply"),
)
_OTHER_HELP = (
    ("/load MODEL", "another model, and a fresh conversation"),
    ("/save MODEL", "a new model of this one and of what was said"),
    ("/list", "list the models on disk"),
    ("/clear", "forget the conversation"),
    ("/bye", "exit (also /exit, Ctrl + d)"),
    ("/?, /help [set|show|shortcuts]", "this help"),
)
_SHORTCUTS = (
    ('"""', "begins and ends a message of several lines"),
    ("Alt + Enter", "another line of a message"),
    ("Up, Down", "earlier messages; Ctrl + r searches them"),
    ("Tab", "completes commands and names of models"),
    ("Ctrl + g", "write the message in $EDITOR"),
    ("Ctrl + c", "stops a reply, or drops what is typed"),
    ("Ctrl + d", "exits"),
)
_HELP_CELLS = 31

_TEXTS: Mapping[str, str] = {
    "license": "No license was specified for this model.",
    "modelfile": "No Modelfile is known of this model.",
    "parameters": "No additional parameters were specified for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}
"""What can be shown alone, and the words for a model without it."""

_UNKNOWN = "Unknown command '{}'. Type /? for help"


OF_MODELS = ("/load", "/save")
"""The commands whose argument is a model."""


def completions() -> list[str]:
    """What Tab offers after a slash."""
    settings = [f"/set {name}" for name in _SETTINGS]
    helps = [f"/help {name}" for name in _HELPS]
    return sorted([*_COMMANDS, *settings, *helps, *(f"/show {text}" for text in ("info", "thinking", *_TEXTS))])


def execute(repl: "Repl", line: str) -> bool:
    """Carry out one command; True ends the chat. An error is printed and the chat goes on."""
    name, _, rest = line.strip().partition(" ")
    command = _COMMANDS.get(name)
    if command is None:
        print(_UNKNOWN.format(name))
        return False
    try:
        return command(repl, rest.strip())
    except CliError as error:
        TextWriter(sys.stderr, wrap=repl.view.wrap).write(f"Error: {one_line(error)}\n")
    except KeyboardInterrupt:
        print()
    return False


def _bye(repl: "Repl", rest: str) -> bool:
    return True


def _help(repl: "Repl", rest: str) -> bool:
    if rest not in ("", *_HELPS):
        raise CliError(f"usage: /help [{' | '.join(_HELPS)}]")
    for title, entries in [_HELPS[rest]] if rest else _HELPS.values():
        print(_help_text(title, entries, columns(sys.stdout)))
    return False


def _help_text(title: str, entries: Sequence[tuple[str, str]], width: int) -> str:
    """A command and its meaning in a line, or below each other where that is too wide."""
    longest = max(len(text) for _, text in entries)
    if width and _HELP_CELLS + 2 + longest >= width:
        lines = [f"  {name}\n    {text}" for name, text in entries]
    else:
        lines = [f"  {name:<{_HELP_CELLS}}{text}" for name, text in entries]
    return "\n".join([title, *lines])


def _clear(repl: "Repl", rest: str) -> bool:
    repl.conversation.messages.clear()
    repl.save()
    print("Cleared session context")
    return False


def _list(repl: "Repl", rest: str) -> bool:
    print(list_command.listing(repl.server))
    return False


def _load(repl: "Repl", rest: str) -> bool:
    if not rest:
        raise CliError("usage: /load MODEL")
    before = repl.conversation.model
    repl.conversation.model = rest
    try:
        repl.load()
    except BaseException:
        repl.conversation.model = before
        raise
    repl.conversation.messages.clear()
    repl.save()
    print(f"Loaded '{rest}'")
    repl.recall()
    return False


def _save(repl: "Repl", rest: str) -> bool:
    if not rest:
        raise CliError("usage: /save MODEL")
    create_command.create(repl.server, repl.conversation.create_body(rest))
    print(f"Created new model '{rest}'")
    return False


def _show(repl: "Repl", rest: str) -> bool:
    if rest in ("", "info"):
        print(show_command.description(repl.server, repl.conversation.model))
    elif rest == "parameters":
        print(_parameters(repl))
    elif rest == "thinking":
        print(printable(repl.thoughts).strip() or "There was no reasoning before the last reply.")
    elif rest in _TEXTS:
        spoken = repl.conversation
        text = show_command.shown_text(repl.server, spoken.model, rest, spoken.system, spoken.options)
        print(printable(text) or _TEXTS[rest])
    else:
        raise CliError("usage: /show [info | TEXT] (/help show says which)")
    return False


def _parameters(repl: "Repl") -> str:
    """The model's own, then those that were set here and win over them."""
    text = show_command.shown_text(repl.server, repl.conversation.model, "parameters")
    model = [f"  {line}" for line in printable(text).splitlines()] or [f"  {_TEXTS['parameters']}"]
    user = [f"  {name:<30} {value}" for name, value in repl.conversation.options.items()]
    return "\n".join(["Model defined parameters:", *model, *(["", "User defined parameters:"] if user else []), *user])


def _set(repl: "Repl", rest: str) -> bool:
    if not rest:
        return _help(repl, "set")
    name, _, value = rest.partition(" ")
    setting = _SETTINGS.get(name)
    if setting is None:
        print(_UNKNOWN.format(f"/set {name}"))
    else:
        setting(repl, value.strip())
    return False


def _set_system(repl: "Repl", value: str) -> None:
    quoted = unquoted(value)
    text = value if quoted is None else quoted
    repl.conversation.system = text
    print("Set system message." if text else "Cleared system message.")


def _set_parameter(repl: "Repl", value: str) -> None:
    try:
        name, *words = shlex.split(value)
    except ValueError:
        name, words = "", []
    if not words:
        raise CliError("usage: /set parameter NAME VALUE")
    check_name(name)
    option = {name: parse_parameter(name, words)}
    # the server looks at it now: a refusal of the next message would come late, and of all that follow
    show_command.shown_text(repl.server, repl.conversation.model, "parameters", options=option)
    repl.conversation.options |= option
    print(f"Set parameter '{name}' to '{' '.join(words)}'")


def _set_think(repl: "Repl", value: str) -> None:
    repl.conversation.think = parse_think(value or "true")
    print("Set 'think' mode" + (f" to '{value}'." if value else "."))


def _set_nothink(repl: "Repl", value: str) -> None:
    repl.conversation.think = False
    print("Set 'nothink' mode.")


def _set_format(repl: "Repl", value: str) -> None:
    repl.conversation.format = parse_format(value or "json")
    print(f"Set format to '{value or 'json'}' mode.")


def _set_noformat(repl: "Repl", value: str) -> None:
    repl.conversation.format = None
    print("Disabled format.")


def _set_tools(repl: "Repl", value: str) -> None:
    repl.conversation.tools = parse_tools(value)
    print(f"Set tools: {', '.join(called(tool) for tool in repl.conversation.tools)}.")


def _set_notools(repl: "Repl", value: str) -> None:
    repl.conversation.tools = []
    print("Disabled tools.")


def _set_verbose(repl: "Repl", value: str) -> None:
    repl.show(verbose=True)
    print("Set 'verbose' mode.")


def _set_quiet(repl: "Repl", value: str) -> None:
    repl.show(verbose=False)
    print("Set 'quiet' mode.")


def _set_thinking(repl: "Repl", value: str) -> None:
    repl.show(thinking=True)
    print("Set 'thinking' mode.")


def _set_nothinking(repl: "Repl", value: str) -> None:
    repl.show(thinking=False)
    print("Set 'nothinking' mode.")


def _set_markdown(repl: "Repl", value: str) -> None:
    repl.show(markdown=True)
    print("Set 'markdown' mode.")


def _set_plain(repl: "Repl", value: str) -> None:
    repl.show(markdown=False)
    print("Set 'plain' mode.")


def _set_wordwrap(repl: "Repl", value: str) -> None:
    repl.show(wrap=True)
    print("Set 'wordwrap' mode.")


def _set_nowordwrap(repl: "Repl", value: str) -> None:
    repl.show(wrap=False)
    print("Set 'nowordwrap' mode.")


def _set_history(repl: "Repl", value: str) -> None:
    repl.editor.remember(True)
    print("Set 'history' mode.")


def _set_nohistory(repl: "Repl", value: str) -> None:
    repl.editor.remember(False)
    print("Set 'nohistory' mode.")


_COMMANDS: Mapping[str, Callable[["Repl", str], bool]] = {
    "/bye": _bye,
    "/exit": _bye,
    "/clear": _clear,
    "/help": _help,
    "/?": _help,
    "/list": _list,
    "/load": _load,
    "/save": _save,
    "/set": _set,
    "/show": _show,
}
_HELPS: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "commands": ("Commands:", _OTHER_HELP),
    "set": ("Settings:", _SET_HELP),
    "show": ("To look at:", _SHOW_HELP),
    "shortcuts": ("Keys:", _SHORTCUTS),
}
_SETTINGS: Mapping[str, Callable[["Repl", str], None]] = {
    "system": _set_system,
    "parameter": _set_parameter,
    "think": _set_think,
    "nothink": _set_nothink,
    "format": _set_format,
    "noformat": _set_noformat,
    "tools": _set_tools,
    "notools": _set_notools,
    "verbose": _set_verbose,
    "quiet": _set_quiet,
    "thinking": _set_thinking,
    "nothinking": _set_nothinking,
    "markdown": _set_markdown,
    "plain": _set_plain,
    "wordwrap": _set_wordwrap,
    "nowordwrap": _set_nowordwrap,
    "history": _set_history,
    "nohistory": _set_nohistory,
}
