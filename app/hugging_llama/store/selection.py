"""Which files of a repository make up what can be served: weights, configuration, tokenizer, licence."""

import re
from collections.abc import Callable, Collection
from typing import Any

from hugging_llama_config.small_files import UNREAD, parse_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
MODULES = "modules.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"

# Weights in other formats, pictures, training leftovers and archives all stay behind, so the list says what comes.
SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".spm", ".bpe", ".vocab", ".codes"})
# Indexes of other formats and variants, and what nobody reads.
_LEFTOVER = re.compile(rf".*\.index(?:\.[\w-]+)?\.json|{UNREAD}")
_DOCUMENT = re.compile(r"(?:licen[cs]e|notice|readme|use_policy)(?:[._-][\w.-]*)?", re.IGNORECASE)
_MODULE_FOLDER = re.compile(r"(?:\w+_)?\d+_\w+")
_TEMPLATE_FOLDER = "additional_chat_templates"
_SHARDS = {
    INDEX: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors"),
    PICKLED_INDEX: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.bin"),
}
_MAX_SHARDS = 10_000
PICKLES_REFUSED = (
    f"it has no safetensors weights, and its {PICKLED} is a pickle, which can run code when it is loaded; where the "
    "operator allows such files (HUGGING_LLAMA_ALLOW_PICKLE), create makes a model of them"
)


class NotServableError(Exception):
    """No weights that can be loaded; the message says why, in words for users."""


class PickledError(NotServableError):
    """No weights but pickled ones."""


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
    return suffix in SUFFIXES and not is_document(path) and (path == INDEX or not _LEFTOVER.fullmatch(name))


def is_adapter(paths: Collection[str]) -> bool:
    """Whether this is an adapter for another model rather than a model."""
    return ADAPTER_CONFIG in paths and not {WEIGHTS, INDEX, PICKLED, PICKLED_INDEX} & set(paths)


def adapter_files(paths: Collection[str]) -> tuple[str, ...]:
    """The files of a LoRA adapter, sorted. Raises NotServableError."""
    if ADAPTER_CONFIG not in paths:
        raise NotServableError(f"it is no adapter: it has no {ADAPTER_CONFIG}")
    if ADAPTER_WEIGHTS not in paths:
        raise NotServableError(f"it has no {ADAPTER_WEIGHTS}; adapters in other formats are not loaded")
    return tuple(sorted((ADAPTER_CONFIG, ADAPTER_WEIGHTS, *filter(is_document, paths))))


def weight_files(
    paths: Collection[str], read_index: Callable[[str], bytes], *, allow_pickle: bool = False
) -> tuple[str, ...]:
    """The files of weights to load, sorted: what transformers would pick, and those of sentence-transformers modules.

    Pickled weights are chosen only where `allow_pickle` is true and there is nothing else. `read_index` is given the
    path of an index among `paths` and returns its bytes. Raises NotServableError.
    """
    modules: set[str] = set()
    if MODULES in paths:
        modules = {path for path in paths if path.endswith("/" + WEIGHTS) and is_support(_beside(path))}
    own: set[str] = set()
    if WEIGHTS in paths:
        own = {WEIGHTS}
    elif index := weight_index(paths, allow_pickle=allow_pickle):
        own = _shards(paths, index, _read(read_index, index))
    elif allow_pickle and PICKLED in paths:
        own = {PICKLED}
    if not own and (not modules or PICKLED in paths or PICKLED_INDEX in paths):
        raise _why_not(paths)
    return tuple(sorted(own | modules))


def weight_index(paths: Collection[str], *, allow_pickle: bool = False) -> str | None:
    """The index that has to be read to know the files of weights, if there is need of one."""
    if WEIGHTS in paths:
        return None
    if INDEX in paths:
        return INDEX
    return PICKLED_INDEX if allow_pickle and PICKLED not in paths and PICKLED_INDEX in paths else None


def check_configuration(paths: Collection[str]) -> None:
    """Raise NotServableError unless something says what kind of model this is."""
    if CONFIG not in paths and MODULES not in paths:
        raise NotServableError(f"it has no {CONFIG}")


def parse_index(text: bytes, index: str = INDEX) -> set[str]:
    """The shards that the text of an index names. A name that is more than a name of such a file is refused.

    Raises NotServableError.
    """
    try:
        content: Any = parse_json(index, text)
        shards = set(content["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotServableError("its weight index can't be read") from error
    if not 0 < len(shards) <= _MAX_SHARDS:
        raise NotServableError("its weight index can't be read")
    if not all(isinstance(name, str) and _SHARDS[index].fullmatch(name) and ".." not in name for name in shards):
        raise NotServableError("its weight index names files outside of the repository's folder")
    return shards


def _beside(weights: str) -> str:
    return weights[: -len(WEIGHTS)] + CONFIG


def _shards(paths: Collection[str], index: str, text: bytes) -> set[str]:
    shards = parse_index(text, index)
    if missing := sorted(shards - set(paths)):
        raise NotServableError(f"{len(missing)} of the {len(shards)} files that its weight index names are missing")
    return shards


def _read(read_index: Callable[[str], bytes], index: str) -> bytes:
    try:
        return read_index(index)
    except ValueError as error:  # too big
        raise NotServableError("its weight index can't be read") from error


def _why_not(paths: Collection[str]) -> NotServableError:
    if ADAPTER_CONFIG in paths or ADAPTER_WEIGHTS in paths:
        return NotServableError("it is an adapter for another model, not a model")
    if "model_index.json" in paths:
        return NotServableError("it is a diffusion pipeline, not a language model")
    if PICKLED in paths or PICKLED_INDEX in paths:
        return PickledError(PICKLES_REFUSED)
    if any(path.endswith(".safetensors") for path in paths):
        return NotServableError(f"it has no {WEIGHTS} in the layout of transformers")
    if any(path.endswith(".gguf") for path in paths):
        return NotServableError("it has only GGUF files; create makes a model of one that is uploaded")
    if any(path.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")) for path in paths):
        return NotServableError("it has no safetensors weights; other formats are not loaded")
    return NotServableError("it has no safetensors weights")
