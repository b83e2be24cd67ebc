"""Pickled weights to safetensors. They are read with `weights_only`, whose unpickler builds tensors and plain values
and refuses everything else; names, types and numbers stay as they are."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hugging_llama.engine.model_files import read_json
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.conversion import ConversionRequest

_SINGLE = "pytorch_model.bin"
_INDEX = "pytorch_model.bin.index.json"
_SHARD = re.compile(r"pytorch_model-\d{1,6}-of-\d{1,6}\.bin")
_MAX_NAME = 512
_MAX_SHARDS = 10_000
_SLACK_BYTES = 2**20
_DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    }
)  # fmt: skip


def convert(request: ConversionRequest) -> None:
    """Raises InvalidRequestError for hostile files, ModelLoadError for a damaged index, and whatever torch raises."""
    source, target = Path(request.source), Path(request.target)
    names = _weight_files(source)
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, name in enumerate(names, 1):
        tensors = _read(source / name)
        if twice := weight_map.keys() & tensors:
            raise _refusal(f"{len(twice)} weights are in more than one file")
        written = f"model-{number:05}-of-{len(names):05}.safetensors" if len(names) > 1 else "model.safetensors"
        save_file(tensors, target / written, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, written)
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
        del tensors  # before the next file takes its place
    if len(names) > 1:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        (target / "model.safetensors.index.json").write_text(json.dumps(index))


def _weight_files(source: Path) -> list[str]:
    """The file, or those that the index names."""
    if (source / _SINGLE).is_file():
        return [_SINGLE]
    named = read_json(source / _INDEX).get("weight_map")
    names = set(named.values()) if isinstance(named, dict) and all(map(_is_text, named.values())) else set()
    if not 0 < len(names) <= _MAX_SHARDS:
        raise _refusal(f"{_INDEX} is damaged")
    for name in names:
        if not _SHARD.fullmatch(name) or not (source / name).is_file():
            raise _refusal(f"{_INDEX} names files that are not there")
    return sorted(names)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, each with memory of its own, as safetensors wants them."""
    values: Any = torch.load(  # noqa: TID251 - with an unpickler that calls nothing
        path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
    )
    if not isinstance(values, dict) or not values:
        raise _refusal("a file holds no weights by name")
    for name, tensor in values.items():
        if not _is_text(name) or not 0 < len(name) <= _MAX_NAME or not _is_plain(tensor):
            raise _refusal("a file holds something else than weights by name")
    # a tensor may repeat its numbers, so that few bytes stand for many
    if sum(tensor.nbytes for tensor in values.values()) > 2 * path.stat().st_size + _SLACK_BYTES:
        raise _refusal("the weights are larger than their file")
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in values.items()}


def _is_plain(value: Any) -> bool:
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and value.dtype in _DTYPES
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _refusal(cause: str) -> InvalidRequestError:
    return InvalidRequestError(f"these weights can't be converted: {cause}", param="files")
