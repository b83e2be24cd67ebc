"""Whether a model's files can be served, as far as headers and small files tell: looked at before a pull is made
visible, and before a model of uploaded files is written down."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from hugging_llama.store import safetensors_header, selection
from hugging_llama.store.capabilities import capabilities, is_of_served_kind
from hugging_llama.store.own_code import needs_own_code
from hugging_llama.store.safetensors_header import BadSafetensorsError, TooManyTensorsError
from hugging_llama.store.selection import NotServableError
from hugging_llama.store.snapshot import Snapshot
from hugging_llama.store.tokenizer_names import TOKENIZER, TOKENIZER_CONFIG, has_tokenizer, is_vocabulary
from hugging_llama_config.model_limits import config_problem
from hugging_llama_config.small_files import FolderSizes, TooManyValuesError, is_json
from hugging_llama_config.tokenizer_file import TokenizerFile
from hugging_llama_config.vocabulary_files import is_plain_vocabulary, plain_vocabulary_problem

_NO_TOKENIZER = (
    f"it has no tokenizer ({TOKENIZER}, or the vocabulary of one, such as tokenizer.model, vocab.txt, or vocab.json "
    "with merges.txt)"
)
_TOKENIZER_DECODER = msgspec.json.Decoder(TokenizerFile)
_UNKNOWN_KIND = f"its {selection.CONFIG} names no architecture that writes, embeds or classifies text"


def check_model(found: Snapshot) -> None:
    """Raises NotServableError, OSError."""
    weight_bytes = _checked_weight_bytes(found)
    _check_small_files(found)
    config = found.json(selection.CONFIG)
    if selection.CONFIG in found.files and not config:
        raise NotServableError(f"{selection.CONFIG} is damaged")
    if problem := config_problem(config, weight_bytes):
        raise NotServableError(f"{selection.CONFIG} {problem}")
    _check_tokenizer(found)
    if not capabilities(found, config):
        raise NotServableError(_UNKNOWN_KIND)


def _check_small_files(found: Snapshot) -> None:
    """Before anything is made of one. Raises NotServableError, OSError."""
    sizes: defaultdict[str, FolderSizes] = defaultdict(FolderSizes)
    for path, file in found.files.items():
        folder, _, name = path.rpartition("/")
        problem = sizes[folder].problem(name, file.size_bytes)
        if not problem and is_json(name):
            problem = _values_problem(found, path)
        if problem:
            raise NotServableError(f"{path} {problem}")


def _values_problem(found: Snapshot, path: str) -> str:
    try:
        found.content(path)
    except TooManyValuesError as error:
        return str(error)
    except ValueError:  # too big to be looked at here; the engine does before it loads it
        pass
    return ""


def _checked_weight_bytes(found: Snapshot) -> int:
    """What the weights take without their headers, which are looked at in safetensors files: they agree with the
    sizes. Raises NotServableError, OSError."""
    num_tensors = num_bytes = 0
    for path in found.weights:
        if not path.endswith(".safetensors"):
            num_bytes += found.files[path].size_bytes
            continue
        try:
            tensors = safetensors_header.read_tensors(found.place(path))
            num_tensors += len(tensors)
            safetensors_header.check_number(num_tensors)
        except TooManyTensorsError as error:
            raise NotServableError(f"its weights have {error}") from None
        except BadSafetensorsError as error:
            raise NotServableError(f"{path} is not a whole safetensors file: {error}") from None
        num_bytes += safetensors_header.data_bytes(tensors)
    if not num_bytes:
        raise NotServableError("its weights hold nothing")
    return num_bytes


def check_first(paths: Collection[str], config: Mapping[str, Any] | None, *, allow_code: bool = False) -> None:
    """What can be said by the names of a model's files and its configuration, None where it has no such file: before
    anything big is fetched. `allow_code`: who asks wants a model's own code, whatever for. Raises NotServableError."""
    if config is not None and not config:
        raise NotServableError(f"{selection.CONFIG} is damaged")
    if config is not None and not allow_code and needs_own_code(config):
        raise NotServableError("this model needs code of its own, which is not run")
    if selection.MODULES in paths:
        return
    if config is not None and not is_of_served_kind(config):
        raise NotServableError(_UNKNOWN_KIND)
    if not any(map(is_vocabulary, paths)) and TOKENIZER_CONFIG not in paths:
        raise NotServableError(_NO_TOKENIZER)


def _check_tokenizer(found: Snapshot) -> None:
    if not has_tokenizer(found):
        raise NotServableError(_NO_TOKENIZER)
    for path in found.files:
        folder, _, name = path.rpartition("/")
        if name == TOKENIZER:
            _check_tokenizer_file(found, path)
        elif is_plain_vocabulary(name) and f"{folder}/{TOKENIZER}".lstrip("/") not in found.files:
            _check_plain_vocabulary(found, path)


def _check_plain_vocabulary(found: Snapshot, path: str) -> None:
    try:
        problem = plain_vocabulary_problem(path.rpartition("/")[2], found.content(path))
    except ValueError:  # as below
        return
    if problem:
        raise NotServableError(f"{path} {problem}")


def _check_tokenizer_file(found: Snapshot, path: str) -> None:
    try:
        file = _TOKENIZER_DECODER.decode(found.content(path))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise NotServableError(f"{path} is damaged") from None
    except ValueError:  # too big to be looked at here; the engine does before it loads it
        return
    if file.model is None:
        raise NotServableError(f"{path} is damaged")
    if problem := file.problem():
        raise NotServableError(f"{path} {problem}")
