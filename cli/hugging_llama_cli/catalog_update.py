"""The catalog's entries as the Hub describes them today: commit, licence, weights, and what decides their memory."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TextIO
from urllib.parse import urlsplit

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.hub import HubError, HubReader, HubUnreachableError
from hugging_llama_cli.model_catalog import BUNDLED, CatalogModel, check_entry, save_catalog
from hugging_llama_cli.plain import printable
from hugging_llama_config.client import ClientSettings
from hugging_llama_config.model_size import StoredTensor, model_size
from hugging_llama_config.units import format_bytes

_CONFIG = "config.json"
_SENTENCES = "sentence_bert_config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_SHARDS = 200
_MOST_CHANGE = 1.25
_DTYPES: Mapping[str, str] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_PACKED_DTYPE = "bfloat16"
"""What weights in other types, such as MXFP4, are unpacked to where no kernel reads them."""


def update_catalog(models: Sequence[CatalogModel], settings: ClientSettings, out: TextIO) -> list[CatalogModel]:
    """Ask the Hub about one after another, say on `out` what changed, and keep it for the next time.

    An entry without a good answer stays as it was. Raises CliError if there was no good answer at all, and in offline
    mode.
    """
    if settings.is_hub_offline:
        host = urlsplit(settings.hub_endpoint).netloc.rpartition("@")[2]
        raise CliError(f"offline mode is on (HF_HUB_OFFLINE is set): {host} is not contacted")
    found, num_described, is_there = list(models), 0, True
    with contextlib.closing(HubReader(settings.hub_endpoint, settings.hub_token)) as hub:
        for index, model in enumerate(models):
            if model.id == BUNDLED or not is_there:
                continue
            try:
                found[index] = refreshed(model, hub)
            except HubError as error:
                is_there = not isinstance(error, HubUnreachableError)
                print(printable(f"{model.id} {error}"), file=out, flush=True)
            else:
                num_described += 1
                print(f"{model.id}: {changes(model, found[index]) or 'unchanged'}", file=out, flush=True)
    if not num_described:
        raise CliError(f"the Hub at {settings.hub_endpoint} described no model; the catalog stays as it was")
    try:
        save_catalog(settings.home, found)
    except OSError as error:
        raise CliError(f"the catalog can't be written to {settings.home}: {error.strerror}") from None
    print(f"{num_described} of {len(models) - 1} models are as the Hub has them now", file=out)
    return found


def refreshed(model: CatalogModel, hub: HubReader) -> CatalogModel:
    """The entry anew; the same one if its commit is. Raises HubError for anything that can't be this model."""
    info = hub.info(model.id)
    if not isinstance(info.get("id"), str) or info["id"].lower() != model.id.lower():
        raise HubError("was not described: the Hub's answer is about another repository")
    commit = info.get("sha")
    if not isinstance(commit, str):
        raise HubError("was not described: the Hub's answer names no commit")
    described = replace(model, commit=commit, license=_license(info, model.license), gated=_is_gated(info))
    if commit != model.commit:
        described = _measured(described, hub, _sizes(info))
    try:
        check_entry(described)
    except ValueError as error:
        raise HubError(f"was not described: the Hub's answer has {error}") from None
    if not 1 / _MOST_CHANGE < described.parameters / model.parameters < _MOST_CHANGE:
        raise HubError("was not described: what the Hub has is of another size altogether")
    return described


def changes(before: CatalogModel, after: CatalogModel) -> str:
    """What is new in one line, "" if nothing is."""
    facts = {
        "commit": (before.commit[:7], after.commit[:7]),
        "parameters": (f"{before.parameters:,}", f"{after.parameters:,}"),
        "type": (before.dtype, after.dtype),
        "context": (str(before.size.context_length), str(after.size.context_length)),
        "download": (_amount(before.download_bytes), _amount(after.download_bytes)),
        "license": (before.license, after.license),
        "gated": (str(before.gated).lower(), str(after.gated).lower()),
    }
    return ", ".join(
        f"{name} {old} -> {new}" if old else f"{name} {new}" for name, (old, new) in facts.items() if old != new
    )


def _measured(model: CatalogModel, hub: HubReader, sizes: Mapping[str, int]) -> CatalogModel:
    config = hub.json_file(model.id, model.commit, _CONFIG)
    is_embedding = model.kind == "embedding"
    limit = None
    if is_embedding and _SENTENCES in sizes:
        value = hub.json_file(model.id, model.commit, _SENTENCES).get("max_seq_length")
        limit = value if type(value) is int and value > 0 else None
    paths = _weight_files(model, hub, sizes)
    tensors = [tensor for path in paths for tensor in hub.tensors(model.id, model.commit, path)]
    size = model_size(config, tensors, is_embedding=is_embedding, context_length=limit)
    return replace(
        model,
        dtype=_dtype(tensors),
        parameters=size.linear + size.other + (0 if size.is_head_tied else size.head),
        size=size,
        download_bytes=sum(sizes[path] for path in paths),
    )


def _weight_files(model: CatalogModel, hub: HubReader, sizes: Mapping[str, int]) -> list[str]:
    if _WEIGHTS in sizes:
        return [_WEIGHTS]
    shards: set[Any] = set()
    if _INDEX in sizes:
        weights = hub.json_file(model.id, model.commit, _INDEX).get("weight_map")
        shards = {name for name in weights.values() if isinstance(name, str)} if isinstance(weights, dict) else set()
    if not shards or len(shards) > _MAX_SHARDS or not shards <= sizes.keys():
        raise HubError("has no safetensors weights that can be found")
    return sorted(shards)


def _sizes(info: Json) -> dict[str, int]:
    """The repository's files; 0 bytes for what the Hub did not say."""
    siblings = info.get("siblings")
    files = [each for each in siblings if isinstance(each, dict)] if isinstance(siblings, list) else []
    named = ((each.get("rfilename"), each.get("size")) for each in files)
    return {name: size if type(size) is int else 0 for name, size in named if isinstance(name, str)}


def _dtype(tensors: Iterable[StoredTensor]) -> str:
    """The type that most of the weights are stored in."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.dtype] += tensor.num_elements
    return _DTYPES.get(elements.most_common(1)[0][0], _PACKED_DTYPE) if elements else _PACKED_DTYPE


def _license(info: Json, known: str) -> str:
    """The model card's; a licence of its own kind has a name of its own."""
    card = info.get("cardData")
    if not isinstance(card, dict):
        return known
    name = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return name if isinstance(name, str) and name else known


def _is_gated(info: Json) -> bool:
    return info.get("gated", False) is not False


def _amount(num_bytes: int) -> str:
    return format_bytes(num_bytes) if num_bytes else ""
