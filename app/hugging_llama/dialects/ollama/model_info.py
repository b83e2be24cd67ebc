"""The `model_info` object of /api/show: what GGUF files carry, under the keys that they have there."""

from hugging_llama.dialects.ollama.render import Json
from hugging_llama.neutral.description import Architecture, ModelDescription, Pooling, Tokenizer
from hugging_llama.neutral.models import LocalModel

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
_POOLING_TYPES = {Pooling.MEAN: 1, Pooling.CLS: 2, Pooling.LAST: 3}


_MERGING = ("gpt2", "llama")


def model_info(model: LocalModel, description: ModelDescription) -> Json:
    """Keys that the files say nothing about are left out; every other one begins with what is the architecture.

    The lists of the tokenizer are empty where the description has none.
    """
    details, shape = model.details, description.architecture
    arch = details.family
    known = {
        "general.architecture": arch,
        "general.basename": model.ref.name.rpartition("/")[2].partition(":")[0],
        "general.file_type": _FILE_TYPES.get(model.quantization_level),
        "general.parameter_count": details.parameter_count,
        f"{arch}.context_length": details.context_length,
        f"{arch}.embedding_length": details.embedding_length,
        **{f"{arch}.{key}": value for key, value in _shape_keys(shape).items()},
        "tokenizer.ggml.bos_token_id": shape.bos_token_id,
        "tokenizer.ggml.eos_token_id": shape.eos_token_id,
        **(_tokenizer_keys(description.tokenizer) if description.tokenizer else {}),
    }
    return {key: value for key, value in known.items() if value is not None}


def _tokenizer_keys(tokenizer: Tokenizer) -> Json:
    keys: Json = {
        "model": tokenizer.model,
        "tokens": tokenizer.tokens,
        "token_type": tokenizer.token_types,
        "merges": tokenizer.merges if tokenizer.model in _MERGING else None,
        "add_bos_token": tokenizer.adds_bos,
        "add_eos_token": tokenizer.adds_eos,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def _shape_keys(shape: Architecture) -> Json:
    return {
        "block_count": shape.num_layers,
        "feed_forward_length": shape.intermediate_size,
        "attention.head_count": shape.num_heads,
        "attention.head_count_kv": shape.num_kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.layer_norm_rms_epsilon": shape.norm_epsilon,
        "attention.sliding_window": shape.sliding_window,
        "expert_count": shape.num_experts,
        "expert_used_count": shape.num_experts_used,
        "rope.dimension_count": shape.rope_dim,
        "rope.freq_base": shape.rope_theta,
        "vocab_size": shape.vocab_size,
        "pooling_type": _POOLING_TYPES.get(shape.pooling) if shape.pooling else None,
    }
