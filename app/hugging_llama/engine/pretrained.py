"""A model of transformers from vetted files: safetensors only, no code from the model, no network."""

from typing import Any

import torch
import transformers

from hugging_llama.engine.built_size import check_built_size
from hugging_llama.engine.detokenizer import try_tokenizer
from hugging_llama.engine.vetting import VettedFiles
from hugging_llama.errors import ModelLoadError

_DEFAULT_CONTEXT = 2048
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")


def pretrained_config(files: VettedFiles) -> Any:
    """The configuration object of the vetted config.json: the file itself is not read again."""
    values = dict(files.config)
    model_type = values.pop("model_type", None)
    if model_type not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        raise ModelLoadError(f"models of the type {model_type!r} are not known to this version of transformers")
    return transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type].from_dict(values)


def pretrained_model(auto_class: Any, files: VettedFiles, config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """The model in evaluation mode. Raises ModelLoadError, and what the library raises."""
    check_built_size(auto_class, config, files.weight_bytes)
    model, info = auto_class.from_pretrained(
        files.path,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        low_cpu_mem_usage=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        # transformers would go on with random numbers in their place
        raise missing_weights()
    return model.eval().requires_grad_(False).to(device)


def pretrained_tokenizer(files: VettedFiles, config: Any) -> Any:
    """The tokenizer, tried out. Raises what the library raises."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        files.path, config=config, trust_remote_code=False, local_files_only=True
    )
    try_tokenizer(tokenizer)
    return tokenizer


def missing_weights() -> ModelLoadError:
    """For a model of which some weights are not among its files."""
    return ModelLoadError("some of this model's weights are missing; pull it again")


def trained_context(config: Any) -> int:
    """Tokens that the model was made for."""
    text = config.get_text_config()
    found = [getattr(text, key, None) for key in _CONTEXT_KEYS]
    return next((int(value) for value in found if isinstance(value, int) and value > 0), _DEFAULT_CONTEXT)


def longest_input(model: torch.nn.Module, limit: int) -> int:
    """`limit`, or the number of learned positions if there are fewer: RoBERTa's count from behind the padding's own,
    which their configuration does not say."""
    for module in model.modules():
        positions = getattr(module, "position_embeddings", None)
        if isinstance(positions, torch.nn.Embedding) and positions.padding_idx is not None:
            limit = min(limit, positions.num_embeddings - positions.padding_idx - 1)
    return limit
