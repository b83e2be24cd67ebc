"""What of a model's files must be converted, and whether they may: decided from headers, before anything reads them."""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import folders, gguf_header, selection
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.gguf_header import BadGgufError, GgufHeader

GGUF_NAME = "model.gguf"
_PICKLE = re.compile(r"pytorch_model(?:-\d{1,6}-of-\d{1,6})?\.bin")
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_GGUF_PACKAGES = ("gguf", "accelerate")
_SHARD_BYTES = 2 * 10**9
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_END_OF_TURN = "tokenizer.ggml.eot_token_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionPlan:
    """`sources` are the files to convert, by the names under which they are read, `kept` those that stay as they are
    (both path -> sha256). The rest is as in ConversionRequest."""

    sources: Mapping[str, str]
    kept: Mapping[str, str] = field(default_factory=dict)
    gguf_file: str = ""
    architecture: str = ""
    dtype: str = ""
    end_of_turn_id: int = -1
    weight_bytes: int
    largest_bytes: int


def needs_conversion(files: Mapping[str, str]) -> bool:
    """Whether these files (path -> sha256) are no model before they are converted: a GGUF file, or pickled weights
    without safetensors beside them."""
    return has_gguf(files) or (_has_pickles(files) and not _has_safetensors(files))


def has_gguf(files: Mapping[str, str]) -> bool:
    """Whether one of these is a GGUF file, by its name."""
    return any(path.lower().endswith(".gguf") for path in files)


def make_plan(files: Mapping[str, str], path_of: Callable[[str], str], *, allow_pickle: bool) -> ConversionPlan:
    """Raises InvalidRequestError for files that can't or may not be converted, OSError.

    `path_of` gives the place of a content that is there.
    """
    try:
        folders.check(files)
    except ValueError as error:
        raise InvalidRequestError("a file's name or digest can't be used", param="files") from error
    if has_gguf(files):
        return _gguf_plan(files, path_of)
    if not _has_pickles(files):
        raise InvalidRequestError("no files provided to convert", param="files")
    return _pickle_plan(files, path_of, allow_pickle)


def _gguf_plan(files: Mapping[str, str], path_of: Callable[[str], str]) -> ConversionPlan:
    if len(files) > 1:
        raise InvalidRequestError(
            "a GGUF file must come alone: it has the configuration, the tokenizer and all weights of its model",
            param="files",
        )
    if missing := [name for name in _GGUF_PACKAGES if importlib.util.find_spec(name) is None]:
        raise InvalidRequestError(
            f"GGUF files need {' and '.join(missing)} on the server: pip install 'hugging-llama[gguf]'", param="files"
        )
    digest = next(iter(files.values()))
    try:
        header: GgufHeader = run_blocking(gguf_header.read_header, path_of(digest))
    except BadGgufError as error:
        raise InvalidRequestError(f"this GGUF file {error}", param="files") from error
    item_bytes = _ITEM_BYTES[header.dtype]
    largest = max(tensor.num_elements for tensor in header.tensors)
    weight_bytes = item_bytes * header.num_parameters
    return ConversionPlan(
        sources={GGUF_NAME: digest},
        gguf_file=GGUF_NAME,
        architecture=header.architecture,
        dtype=header.dtype,
        end_of_turn_id=_end_of_turn(header),
        weight_bytes=weight_bytes,
        # a file of the result, or a tensor that is unpacked to float32
        largest_bytes=max(min(weight_bytes, _SHARD_BYTES), 4 * largest),
    )


def _end_of_turn(header: GgufHeader) -> int:
    value = header.metadata.get(_END_OF_TURN, -1)
    return value if type(value) is int else -1


def _pickle_plan(files: Mapping[str, str], path_of: Callable[[str], str], allow_pickle: bool) -> ConversionPlan:
    if not allow_pickle:
        raise InvalidRequestError(selection.PICKLES_REFUSED, param="files")
    sources = {path: digest for path, digest in files.items() if _PICKLE.fullmatch(path) or path == _PICKLE_INDEX}
    sizes = [os.stat(path_of(digest)).st_size for path, digest in sources.items() if path != _PICKLE_INDEX]
    return ConversionPlan(
        sources=sources,
        kept={path: digest for path, digest in files.items() if path not in sources},
        weight_bytes=sum(sizes),
        largest_bytes=max(sizes),
    )


def _has_pickles(files: Mapping[str, str]) -> bool:
    return any(_PICKLE.fullmatch(path) for path in files)


def _has_safetensors(files: Mapping[str, str]) -> bool:
    return selection.WEIGHTS in files or selection.INDEX in files
