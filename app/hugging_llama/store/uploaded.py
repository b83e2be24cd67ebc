"""Looks at uploaded files before a model is made of them. Raises InvalidRequestError with a sentence for users."""

from collections.abc import Mapping

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import layout, selection, snapshot, soundness
from hugging_llama.store.selection import NotServableError

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
