"""Looks at uploaded files before a model is made of them. Raises InvalidRequestError with a sentence for users."""

import os
from collections.abc import Mapping

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import layout, selection, snapshot, soundness
from hugging_llama.store.safetensors_header import BadSafetensorsError, read_tensors
from hugging_llama.store.selection import ADAPTER_CONFIG, ADAPTER_WEIGHTS, NotServableError

_MAX_FILES = 10_000
_SUFFIXES = (".safetensors", ".gguf", ".bin", *selection.SUFFIXES)


def check_names(files: Mapping[str, str], param: str) -> None:
    """The names must stay in their folder, and every file must be one that models have. Digests are not looked at."""
    if len(files) > _MAX_FILES:
        raise InvalidRequestError(f"a model may have {_MAX_FILES} files", param=param)
    for path in files:
        parts = path.replace("\\", "/").split("/")
        if path.startswith(("/", "\\", "~")) or ".." in parts or path[1:2] == ":":
            raise InvalidRequestError("file path must be relative", param=param)
        if not layout.is_safe_file(path):
            raise InvalidRequestError(
                "a file's name may have letters, digits, plain signs and no leading dot", param=param
            )
        if any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            raise InvalidRequestError(f"{path} can't lie in what is a file itself", param=param)
        folder = path.rpartition("/")[0]
        is_looked_into = not folder or selection.is_support(f"{folder}/{selection.CONFIG}")
        if not is_looked_into or not (path.lower().endswith(_SUFFIXES) or selection.is_document(path)):
            raise InvalidRequestError(
                f"{path} is no file that a model is made of: weights, configuration, tokenizer",
                param=param,
            )


def check_model(folder: str) -> None:
    """Whether a folder holds a whole model that can be served."""
    try:
        soundness.check_model(snapshot.read_snapshot(folder))
    except NotServableError as error:
        raise InvalidRequestError(f"no model can be made of these files: {error}", param="files") from None


def check_adapter(folder: str) -> None:
    """Whether a folder holds a whole LoRA adapter as peft writes it."""
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not os.path.isfile(os.path.join(folder, file)):
            raise InvalidRequestError(
                f"the adapter has no {file}; an adapter is {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} as peft writes them",
                param="adapters",
            )
    if snapshot.read_object(os.path.join(folder, ADAPTER_CONFIG)).get("peft_type") != "LORA":
        raise InvalidRequestError("the adapter is not a LoRA: its peft_type must be LORA", param="adapters")
    _check_weights(folder, (ADAPTER_WEIGHTS,), "adapters")


def _check_weights(folder: str, paths: tuple[str, ...], param: str) -> None:
    for path in paths:
        try:
            read_tensors(os.path.join(folder, path))
        except BadSafetensorsError as error:
            raise InvalidRequestError(f"{path} is not a whole safetensors file: {error}", param=param) from None
