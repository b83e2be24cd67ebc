"""All that the files of a model on disk say of it."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from hugging_llama.errors import ModelNotFoundError
from hugging_llama.neutral.description import Architecture, ModelDescription, Pooling, TensorInfo
from hugging_llama.neutral.models import LocalModel
from hugging_llama.parsing.thinking_tags import HARMONY_TAGS, has_channels, thinking_tags
from hugging_llama.parsing.tool_formats import tool_format
from hugging_llama.store import safetensors_header, selection
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.capabilities import chat_template
from hugging_llama.store.defaults import sampling_defaults
from hugging_llama.store.details import text_config
from hugging_llama.store.license import license_text
from hugging_llama.store.safetensors_header import BadSafetensorsError
from hugging_llama.store.snapshot import Snapshot, read_snapshot
from hugging_llama.store.tokenizer_file import read_tokenizer
from hugging_llama_config.model_size import StoredTensor

_POOLING = {"mean": Pooling.MEAN, "cls": Pooling.CLS, "lasttoken": Pooling.LAST}
RESPONSE_TEMPLATE = "response_template"
"""Where a tokenizer has one, it says how calls are read."""

_POOLING_CONFIG = "1_Pooling/config.json"


def describe(model: LocalModel, *, with_lists: bool) -> ModelDescription:
    """Reads the model's small files, and where `with_lists` asks for tensors and tokens the headers of its weights.
    Raises ModelNotFoundError if it is gone.

    `template` is the one in effect, the model's own or that of its files.
    """
    snapshot = _snapshot(model)
    template = model.defaults.template or chat_template(snapshot)
    tools = tool_format(template)
    tags = HARMONY_TAGS if has_channels(template) else thinking_tags(template)
    has_own_reader = not model.defaults.template and _knows_calls(snapshot)
    return ModelDescription(
        architecture=_architecture(snapshot),
        template=template,
        tool_format=RESPONSE_TEMPLATE if has_own_reader and tools else tools.name if tools else "",
        thinking_tags=(tags.open, tags.close) if tags else None,
        sampling=sampling_defaults(snapshot.folder),
        license=license_text(snapshot),
        tensors=tuple(TensorInfo(*tensor) for tensor in _tensors(model, snapshot)) if with_lists else (),
        tokenizer=read_tokenizer(snapshot, with_tokens=with_lists),
    )


def _knows_calls(snapshot: Snapshot) -> bool:
    """Whether the tokenizer has a template for responses that says how calls are written."""
    template = snapshot.json("tokenizer_config.json").get(RESPONSE_TEMPLATE)
    fields = template.get("fields") if isinstance(template, dict) else None
    return isinstance(fields, dict) and "tool_calls" in fields


def _snapshot(model: LocalModel) -> Snapshot:
    with _not_found(model):
        return read_snapshot(model.ref.path)


def _tensors(model: LocalModel, snapshot: Snapshot) -> list[StoredTensor]:
    with _not_found(model):
        return run_blocking(safetensors_header.read_all_tensors, [snapshot.place(path) for path in snapshot.weights])


@contextlib.contextmanager
def _not_found(model: LocalModel) -> Iterator[None]:
    """A model whose files are gone or damaged by now is not there."""
    try:
        yield
    except (OSError, selection.NotServableError, BadSafetensorsError) as error:
        raise ModelNotFoundError(model.ref.name, model.ref.name) from error


def _architecture(snapshot: Snapshot) -> Architecture:
    config = snapshot.json(selection.CONFIG)
    parts = (text_config(config), config)
    rope = _first(parts, dict, "rope_parameters", "rope_scaling") or {}
    return Architecture(
        num_layers=_count(parts, "num_hidden_layers", "n_layer", "num_layers"),
        intermediate_size=_count(parts, "intermediate_size", "n_inner", "ffn_dim", "d_ff"),
        num_heads=_count(parts, "num_attention_heads", "n_head", "num_heads"),
        num_kv_heads=_count(parts, "num_key_value_heads", "num_kv_heads", "num_attention_heads", "n_head"),
        head_dim=_head_dim(parts),
        norm_epsilon=_real(parts, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"),
        rope_theta=_real((rope, *parts), "rope_theta"),
        rope_dim=_rope_dim(parts, rope),
        sliding_window=_count(parts, "sliding_window"),
        num_experts=_count(parts, "num_experts", "num_local_experts", "n_routed_experts"),
        num_experts_used=_count(parts, "num_experts_per_tok", "num_experts_per_token"),
        vocab_size=_count(parts, "vocab_size"),
        bos_token_id=_token_id(parts, "bos_token_id"),
        eos_token_id=_token_id(parts, "eos_token_id"),
        pooling=_pooling(snapshot),
    )


def _pooling(snapshot: Snapshot) -> Pooling | None:
    config = snapshot.json(_POOLING_CONFIG)
    if not config:
        return None
    named = config.get("pooling_mode")
    chosen = [named] if isinstance(named, str) else []
    chosen += [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    return _POOLING.get(chosen[0], Pooling.OTHER) if len(chosen) == 1 else Pooling.OTHER


_Parts = tuple[Mapping[str, Any], ...]


def _first(parts: _Parts, kind: type, *keys: str) -> Any:
    found = (part.get(key) for part in parts for key in keys)
    return next((value for value in found if isinstance(value, kind) and not isinstance(value, bool)), None)


def _count(parts: _Parts, *keys: str) -> int | None:
    value = _first(parts, int, *keys)
    return value if value is not None and 0 < value < 2**53 else None


def _real(parts: _Parts, *keys: str) -> float | None:
    value = _first(parts, (int, float), *keys)  # type: ignore[arg-type]
    return float(value) if value is not None and math.isfinite(value) and value > 0 else None


def _head_dim(parts: _Parts) -> int | None:
    hidden, heads = _count(parts, "hidden_size", "n_embd", "d_model"), _count(parts, "num_attention_heads", "n_head")
    return _count(parts, "head_dim") or (hidden // heads if hidden and heads and hidden >= heads else None)


def _rope_dim(parts: _Parts, rope: Mapping[str, Any]) -> int | None:
    """How much of each head is rotated; None where nothing says that positions are rotations."""
    keys = [key for part in parts for key in part]
    is_rotary = any("rope" in key or "rotary" in key for key in keys) or any(
        part.get("position_embedding_type") == "rotary" for part in parts
    )
    head_dim = _head_dim(parts)
    if not is_rotary or head_dim is None:
        return None
    share = _real((rope, *parts), "partial_rotary_factor", "rotary_pct") or 1.0
    return _count(parts, "qk_rope_head_dim", "rotary_dim") or int(head_dim * min(share, 1.0)) or None


def _token_id(parts: _Parts, key: str) -> int | None:
    """The id, or the first of several."""
    value = next((part[key] for part in parts if part.get(key) is not None), None)
    if isinstance(value, list) and value:
        value = value[0]
    return value if type(value) is int and 0 <= value < 2**53 else None
