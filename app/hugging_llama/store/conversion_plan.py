"""What of a model's files must be converted, and whether they may: decided from headers, before anything reads them."""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.conversion import GgufFacts
from hugging_llama.store import folders, gguf_header, selection
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.gguf_header import BadGgufError, GgufHeader

_PICKLE = re.compile(r"pytorch_model(?:-\d{1,6}-of-\d{1,6})?\.bin")
_GGUF_PACKAGES = ("gguf", "accelerate")
_SHARD_BYTES = 2 * 10**9
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_END_OF_TURN = "tokenizer.ggml.eot_token_id"
_ROPE_TENSORS = ("rope_freqs.", "rope_factors_")
_ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionPlan:
    """`sources` are the files to convert, by the names under which they are read, `kept` those that stay as they are
    (both path -> sha256). The rest is as in ConversionRequest."""

    sources: Mapping[str, str]
    kept: Mapping[str, str]
    weight_bytes: int
    largest_bytes: int
    gguf: GgufFacts | None = None


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
            "a GGUF file must come alone, it has configuration, tokenizer and weights: leave out the other files",
            param="files",
        )
    if missing := [name for name in _GGUF_PACKAGES if importlib.util.find_spec(name) is None]:
        raise InvalidRequestError(
            f"GGUF files need {' and '.join(missing)} on the server: pip install 'hugging-llama[gguf]'", param="files"
        )
    digest = next(iter(files.values()))
    try:
        facts, largest = run_blocking(_read_facts, path_of(digest))
    except BadGgufError as error:
        raise InvalidRequestError(f"this GGUF file {error}", param="files") from error
    weight_bytes = _ITEM_BYTES[facts.dtype] * facts.num_elements
    return ConversionPlan(
        sources={facts.file: digest},
        kept={},
        weight_bytes=weight_bytes,
        # a file of the result, or a tensor that is unpacked to float32
        largest_bytes=max(min(weight_bytes, _SHARD_BYTES), 4 * largest),
        gguf=facts,
    )


def _read_facts(path: str) -> tuple[GgufFacts, int]:
    """And how many elements the largest tensor has. Raises BadGgufError, OSError."""
    header = gguf_header.read_header(path)
    weights = [tensor.num_elements for tensor in header.tensors if not tensor.name.startswith(_ROPE_TENSORS)]
    if not weights:
        raise BadGgufError("has no weights")
    end_of_turn = header.metadata.get(_END_OF_TURN)
    scaling = f"{header.architecture}.rope.scaling."
    facts = GgufFacts(
        file="model.gguf",
        architecture=header.architecture,
        dtype=header.dtype,
        num_elements=sum(weights),
        num_tokens=header.arrays["tokenizer.ggml.tokens"],
        end_of_turn_id=end_of_turn if type(end_of_turn) is int else -1,
        rope_scaling={
            key.removeprefix(scaling): value for key, value in header.metadata.items() if key.startswith(scaling)
        },
        rope_factors=_rope_factors(path, header),
    )
    return facts, max(weights)


def _rope_factors(path: str, header: GgufHeader) -> list[float]:
    tensors = {tensor.name: tensor for tensor in header.tensors if tensor.name.startswith(_ROPE_TENSORS)}
    if not tensors:
        return []
    if tensors.keys() != {_ROPE_FACTORS}:  # one set for short texts and one for long ones
        raise BadGgufError("scales its positions in a way that can't be converted (longrope)")
    return gguf_header.read_floats(path, tensors[_ROPE_FACTORS])


def _pickle_plan(files: Mapping[str, str], path_of: Callable[[str], str], allow_pickle: bool) -> ConversionPlan:
    if not allow_pickle:
        raise InvalidRequestError(f"no model can be made of these files: {selection.PICKLES_REFUSED}", param="files")
    index = selection.PICKLED_INDEX
    sources = {path: digest for path, digest in files.items() if _PICKLE.fullmatch(path) or path == index}
    sizes = [os.stat(path_of(digest)).st_size for path, digest in sources.items() if path != index]
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
