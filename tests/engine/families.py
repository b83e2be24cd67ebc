"""A tiny random model of every family of language models that this transformers can build, for the table of runners.

The sizes below are common to all; a family names what it has besides, and None takes a common one away. Hybrids get
layers of each kind.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedModel

from tests.engine.tiny_models import VOCAB_SIZE, from_config

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_WINDOW: dict[str, Any] = {
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_MOE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL_MOE: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED_MOE: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT: dict[str, Any] = {
    "head_dim": 8,
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
_MAMBA2: dict[str, Any] = {
    "head_dim": None,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
_LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_CONV: dict[str, Any] = {"head_dim": None, "layer_types": ["conv", "full_attention", "conv"]}

FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "apertus": {},
    "arcee": {},
    "bailing_hybrid": _ROUTED_MOE
    | _LATENT
    | {
        "num_local_experts": 4,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "bamba": _MAMBA2 | {"attn_layer_indices": [1]},
    "biogpt": {},
    "bitnet": {},
    "bloom": {},
    "codegen": {"rotary_dim": 8},
    "cohere": {},
    "cohere2": _WINDOW,
    "deepseek_v2": _ROUTED_MOE | _LATENT | {"first_k_dense_replace": 1},
    "deepseek_v3": _ROUTED_MOE | _LATENT | {"first_k_dense_replace": 1},
    "diffllama": {},
    "doge": {},
    "dots1": _ROUTED_MOE | {"first_k_dense_replace": 1},
    "ernie4_5": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32},
    "exaone4": _WINDOW,
    "falcon": {"head_dim": None},
    "falcon_h1": _MAMBA2 | {"mamba_d_ssm": 128},
    "falcon_mamba": {"head_dim": None, "state_size": 4},
    "flex_olmo": _MOE,
    "gemma": {},
    "gemma2": _WINDOW | {"attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 1},
    "gemma3_text": _WINDOW | {"query_pre_attn_scalar": 1},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": VOCAB_SIZE,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0, 0.0, 0.0, 0.0],
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": _ROUTED_MOE | {"first_k_dense_replace": 1},
    "gpt2": {"head_dim": None},
    "gpt_bigcode": {"head_dim": None},
    "gpt_neo": {
        "head_dim": None,
        "num_hidden_layers": None,
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 12,
    },
    "gpt_neox": {"head_dim": None},
    "gpt_oss": _WINDOW | _LOCAL_MOE,
    "gptj": {"rotary_dim": 8},
    "granite": {},
    "granitemoe": _LOCAL_MOE,
    "granitemoehybrid": _LOCAL_MOE | _MAMBA2 | {"layer_types": ["mamba", "attention", "mamba"]},
    "helium": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "jamba": _MOE | {"mamba_d_state": 8, "attn_layer_period": 3, "attn_layer_offset": 1},
    "jetmoe": _LOCAL_MOE | {"kv_channels": 16},
    "kimi_linear": _ROUTED_MOE
    | _LATENT
    | {
        "q_lora_rank": None,
        "num_local_experts": 4,
        "linear_num_heads": 4,
        "linear_head_dim": 16,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "lfm2": _CONV,
    "lfm2_moe": _CONV | _MOE | {"num_dense_layers": 1},
    "llama": {},
    "llama4_text": _LOCAL_MOE,
    "longcat_flash": _LATENT | {"num_layers": 2, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32, "moe_topk": 2},
    "mamba": {"head_dim": None, "state_size": 4},
    "mamba2": {"num_heads": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "minicpm3": _LATENT,
    "minimax": _LOCAL_MOE | {"layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "minimax_m2": _LOCAL_MOE,
    "ministral": _WINDOW,
    "ministral3": {},
    "mistral": {"sliding_window": 12},
    "mixtral": _LOCAL_MOE,
    "mpt": {},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": _ROUTED_MOE
    | {
        "num_hidden_layers": None,
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "moe_shared_expert_intermediate_size": 32,
    },
    "olmo": {},
    "olmo2": {},
    "olmo3": _WINDOW,
    "olmo_hybrid": _LINEAR,
    "olmoe": _MOE,
    "openai-gpt": {"head_dim": None},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": _LOCAL_MOE,
    "qwen2": {},
    "qwen2_moe": _MOE | {"shared_expert_intermediate_size": 32},
    "qwen3": {},
    "qwen3_5_text": _LINEAR,
    "qwen3_moe": _MOE,
    "qwen3_next": _LINEAR | _MOE | {"shared_expert_intermediate_size": 32},
    "recurrent_gemma": {"attention_window_size": 12},
    "rwkv": {"attention_hidden_size": 64},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": None},
    "vaultgemma": _WINDOW,
    "xglm": {"ffn_dim": 96},
    "xlstm": {"head_dim": None, "num_heads": 4, "qk_dim_factor": 1.0},
    "zamba": {"mamba_d_state": 4, "attn_layer_period": 3, "attn_layer_offset": 1, "n_mamba_heads": 2},
    "zamba2": {
        "head_dim": None,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_d_state": 8,
        "chunk_size": 8,
    },
}


def make_family(name: str) -> PreTrainedModel:
    """The model of that family, always with the same weights."""
    sizes = {
        key: value
        for key, value in (_SIZES | FAMILIES[name]).items()
        if value is not None or key in ("bos_token_id", "eos_token_id")
    }
    return from_config(AutoConfig.for_model(name, **sizes))
