"""Which files of a repository make up a model that can be served: safetensors, configuration, tokenizer, licence."""

import json
import re
from collections.abc import Callable, Collection
from typing import Any

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
MODULES = "modules.json"

# Weights in other formats, pictures, training leftovers and archives all stay behind, so the list says what comes.
_SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".spm", ".bpe", ".vocab", ".codes"})
_DOCUMENT = re.compile(r"(?:licen[cs]e|notice|readme|use_policy)(?:[._-][\w.-]*)?", re.IGNORECASE)
_MODULE_FOLDER = re.compile(r"(?:\w+_)?\d+_\w+")
_TEMPLATE_FOLDER = "additional_chat_templates"
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
_MAX_SHARDS = 10_000


class NotServableError(Exception):
    """No weights that can be loaded; the message says why, in words for users."""


def is_document(path: str) -> bool:
    """Whether this is a text for people: a licence, a read-me."""
    return "/" not in path and _DOCUMENT.fullmatch(path) is not None


def is_code(path: str) -> bool:
    """Whether this is Python, which runs only where the operator allows it."""
    return path.endswith(".py")


def is_support(path: str) -> bool:
    """Whether the engine reads this besides the weights: configuration, tokenizer, chat template."""
    folder, _, name = path.rpartition("/")
    if folder and not (_MODULE_FOLDER.fullmatch(folder) or folder == _TEMPLATE_FOLDER):
        return False
    suffix = name[name.rfind(".") :] if "." in name else ""
    return suffix in _SUFFIXES and not is_document(path)


def weight_files(paths: Collection[str], read_index: Callable[[str], bytes]) -> tuple[str, ...]:
    """The safetensors files to load, sorted: what transformers would pick, and those of sentence-transformers modules.

    `read_index` is given the path of an index among `paths` and returns its bytes. Raises NotServableError.
    """
    chosen = {path for path in paths if path.endswith("/" + WEIGHTS) and is_support(path[: -len(WEIGHTS)] + "x.json")}
    if WEIGHTS in paths:
        chosen.add(WEIGHTS)
    elif INDEX in paths:
        shards = parse_index(_read(read_index))
        if missing := sorted(shards - set(paths)):
            raise NotServableError(f"{len(missing)} of the {len(shards)} files that its weight index names are missing")
        chosen |= shards
    if not chosen or (MODULES not in paths and all("/" in path for path in chosen)):
        raise NotServableError(_why_not(paths))
    return tuple(sorted(chosen))


def check_configuration(paths: Collection[str]) -> None:
    """Raise NotServableError unless something says what kind of model this is."""
    if CONFIG not in paths and MODULES not in paths:
        raise NotServableError(f"it has no {CONFIG}")


def parse_index(text: bytes) -> set[str]:
    """The shards that a safetensors index names. A name that is more than a file name is refused.

    Raises NotServableError.
    """
    try:
        index: Any = json.loads(text)
        shards = set(index["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotServableError("its weight index can't be read") from error
    if not 0 < len(shards) <= _MAX_SHARDS:
        raise NotServableError("its weight index can't be read")
    if not all(isinstance(name, str) and _SHARD.fullmatch(name) and ".." not in name for name in shards):
        raise NotServableError("its weight index names files outside of the repository's folder")
    return shards


def _read(read_index: Callable[[str], bytes]) -> bytes:
    try:
        return read_index(INDEX)
    except ValueError as error:  # too big
        raise NotServableError("its weight index can't be read") from error


def _why_not(paths: Collection[str]) -> str:
    if "adapter_model.safetensors" in paths:
        return "it is an adapter for another model, not a model"
    if "model_index.json" in paths:
        return "it is a diffusion pipeline, not a language model"
    if any(path.endswith(".safetensors") for path in paths):
        return f"it has no {WEIGHTS} in the layout of transformers"
    if any(path.endswith(".gguf") for path in paths):
        return "it has only GGUF files; only safetensors repositories can be served"
    if any(path.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")) for path in paths):
        return "it has no safetensors weights; other formats are not loaded"
    return "it has no safetensors weights"
