"""Models of every family the engine must get right: tiny, random, and made so that each trick of theirs matters.

Random weights of the usual size give nearly uniform attention, in which a missing softcap, window or sink changes
nothing. So queries are scaled up, and caps, windows and sinks are small or large enough to decide tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

VOCAB_SIZE = 499
WINDOW = 12
LONGROPE_SWITCH = 40

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    # tied, the embedding of the last token would outvote everything attention says
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_HEAD: dict[str, Any] = {"head_dim": 16}
_MIXED_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SIZES),
    "qwen2": lambda: Qwen2Config(**_SIZES),
    "qwen3": lambda: Qwen3Config(**_SIZES, **_HEAD),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_SIZES, **_HEAD, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=WINDOW),
    "phi3": lambda: Phi3Config(**_SIZES),
    "phi3_longrope": lambda: Phi3Config(
        **_SIZES,
        original_max_position_embeddings=LONGROPE_SWITCH,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": LONGROPE_SWITCH,
            "partial_rotary_factor": 1.0,
            "short_factor": [1.0] * 8,
            "long_factor": [3.0] * 8,
        },
    ),
    "gemma2": lambda: Gemma2Config(
        **_SIZES,
        **_HEAD,
        sliding_window=WINDOW,
        layer_types=_MIXED_LAYERS,
        attn_logit_softcapping=1.0,
        query_pre_attn_scalar=1,
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **_SIZES, **_HEAD, sliding_window=WINDOW, layer_types=_MIXED_LAYERS, query_pre_attn_scalar=1
    ),
    "gpt_oss": lambda: GptOssConfig(
        **_SIZES,
        **_HEAD,
        sliding_window=WINDOW,
        layer_types=_MIXED_LAYERS,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    "olmo2": lambda: Olmo2Config(**_SIZES),
    "granite": lambda: GraniteConfig(**_SIZES),
    "glm4": lambda: Glm4Config(**_SIZES, **_HEAD),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=1024,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    ),
}


def make_model(name: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model of that family, always with the same weights."""
    return from_config(CONFIGS[name](), dtype)


def make_mamba() -> PreTrainedModel:
    """A model without attention."""
    config = MambaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=4,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return from_config(config, torch.float32)


def from_config(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model that knows no end-of-sequence token, always with the same weights."""
    # the random state of the test stays as it was
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
        for module in model.modules():
            sinks = getattr(module, "sinks", None)
            if sinks is not None:
                torch.nn.init.uniform_(sinks, 1.0, 6.0)
    model.eval()
    model.generation_config.eos_token_id = None
    result: PreTrainedModel = model
    return result


def generate_greedy(model: PreTrainedModel, prompt: list[int], max_tokens: int) -> list[int]:
    """What transformers' own `generate` says, without an end-of-sequence token."""
    generate: Any = model.generate
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=0
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens
