"""Which files of this machine make up the model or the adapter that a Modelfile names by a path."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hugging_llama_cli.errors import CliError

_SINGLE_SUFFIXES = (".gguf", ".safetensors")
# configuration and tokenizer, by the kinds of files that the server takes from the Hub
_SUPPORT = re.compile(r".*\.json|chat_template\.jinja|tokenizer\.model|(?:vocab|merges)\.txt|.*\.tiktoken", re.DOTALL)
_MODULE_FOLDER = re.compile(r"(?:\w+_)?\d+_\w+")
_MODULES = "modules.json"
_PICKLED = re.compile(r"pytorch_model(?:-\d{1,6}-of-\d{1,6})?\.bin")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def model_files(path: Path) -> Mapping[str, Path]:
    """The files of a model, or one `.gguf` or `.safetensors` file, by the names under which the server gets them.

    Raises CliError if there are none, or if one lies elsewhere.
    """
    if not path.is_dir():
        return _single(path)
    names = _names(path)
    chosen = _weights(path, names) | {name for name in names if _SUPPORT.fullmatch(name)}
    if _MODULES in names:  # sentence-transformers keeps the parts of a model in folders of their own
        for folder in _names(path, folders=True):
            if _MODULE_FOLDER.fullmatch(folder):
                inside = _names(path / folder)
                chosen |= {f"{folder}/{n}" for n in inside if n.endswith(".json") or n == "model.safetensors"}
    return _located(path, chosen)


def adapter_files(path: Path) -> Mapping[str, Path]:
    """The two files of a PEFT adapter's folder, or one file. Raises CliError."""
    if not path.is_dir():
        return _single(path)
    if missing := [name for name in _ADAPTER_FILES if not (path / name).is_file()]:
        raise CliError(f"the folder '{path}' is no adapter: it has no {missing[0]}")
    return _located(path, _ADAPTER_FILES)


def _single(path: Path) -> Mapping[str, Path]:
    if path.suffix.lower() not in _SINGLE_SUFFIXES:
        raise CliError(f"'{path}' is neither a folder nor a .safetensors or .gguf file")
    if not path.is_file():
        raise CliError(f"'{path}' is no file that can be sent")
    return {path.name: path}


def _weights(folder: Path, names: set[str]) -> set[str]:
    """The weights in transformers' layout; else what other safetensors there are; else the GGUF file; else pickled
    ones, which the server converts where its operator allows it."""
    tensors = {name for name in names if name.endswith(".safetensors")}
    if chosen := {name for name in tensors if name.startswith("model")}:
        return chosen
    if others := {name for name in tensors if name not in ("consolidated.safetensors", _ADAPTER_FILES[1])}:
        return others
    ggufs = {name for name in names if name.endswith(".gguf")}
    if len(ggufs) > 1:
        raise CliError(f"the folder '{folder}' has {len(ggufs)} GGUF files: name one of them")
    if ggufs:
        return ggufs
    if _ADAPTER_FILES[1] in names:
        raise CliError(f"the folder '{folder}' is an adapter: name it after ADAPTER, and its base model after FROM")
    if pickled := {name for name in names if _PICKLED.fullmatch(name)}:
        return pickled
    raise CliError(f"the folder '{folder}' has no safetensors or GGUF weights")


def _names(folder: Path, *, folders: bool = False) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {e.name for e in entries if not e.name.startswith(".") and (e.is_dir() if folders else e.is_file())}
    except OSError as error:
        raise CliError(f"the folder '{folder}' can't be read: {error.strerror}") from None


def _located(folder: Path, names: "set[str] | tuple[str, ...]") -> Mapping[str, Path]:
    """Where each file lies. A link may lead anywhere, to what was never meant to be sent: only links inside count."""
    root = folder.resolve()
    for name in names:
        if not (folder / name).resolve().is_relative_to(root):
            raise CliError(
                f"'{folder / name}' is a link that leads out of its folder; name a model of the Hub's cache by its "
                f"name, or send a copy with the files themselves ('cp -rL')"
            )
    return {name: folder / name for name in sorted(names)}
