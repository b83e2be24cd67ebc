"""What a model's files say about it: family, size, number format, lengths."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hugging_llama.neutral.models import ModelDetails
from hugging_llama.store.snapshot import Snapshot
from hugging_llama_config.model_size import CONTEXT_KEYS, StoredTensor

UNKNOWN = "unknown"
"""The family of a model whose files name none."""
_EMBEDDING_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
_MAX_LENGTH = 2**40


def model_details(snapshot: Snapshot, config: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> ModelDetails:
    """The details of a model whose weights are `tensors`. Raises OSError."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.dtype] += tensor.num_elements
    family = config.get("model_type")
    return ModelDetails(
        format="safetensors",
        family=family if isinstance(family, str) and family else UNKNOWN,
        parameter_count=sum(elements.values()) or None,
        quantization_level=_quantization_level(elements, config),
        context_length=_sentence_length(snapshot) or _first_length(config, CONTEXT_KEYS),
        embedding_length=_first_length(config, _EMBEDDING_KEYS),
    )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model, {} where there is no such part."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else {}


def named_dtype(config: Mapping[str, Any]) -> str:
    """The dtype that a config.json says its weights have, "" if none."""
    dtype = config.get("dtype") or config.get("torch_dtype")
    return dtype.removeprefix("torch.") if isinstance(dtype, str) else ""


def _quantization_level(elements: Counter[str], config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict) and isinstance(quantization.get("quant_method"), str):
        bits = quantization.get("bits")
        method: str = quantization["quant_method"].upper()
        return f"{method}-{bits}BIT" if isinstance(bits, int) else method
    return elements.most_common(1)[0][0] if elements else "unknown"


def _sentence_length(snapshot: Snapshot) -> int | None:
    return _first_length(snapshot.json("sentence_bert_config.json"), ("max_seq_length",))


def _first_length(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    for part in (config, text_config(config)):
        for key in keys:
            value = part.get(key)
            if type(value) is int and 0 < value < _MAX_LENGTH:
                return value
    return None
