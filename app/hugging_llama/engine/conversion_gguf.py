"""A GGUF file to a folder of transformers: weights without blocks, configuration, tokenizer, chat template."""

import contextlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers

from hugging_llama.engine.built_size import check_built_size
from hugging_llama.engine.conversion_rope import restore_rope_scaling
from hugging_llama.engine.detokenizer import try_tokenizer
from hugging_llama.engine.model_files import read_json
from hugging_llama.engine.vetting import check_config, vet
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.conversion import ConversionRequest, GgufFacts

_MAX_SHARD = "2GB"
"""While a file is written it lies in memory a second time."""
_LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
_TABLES = (
    ("transformers.modeling_gguf_pytorch_utils", "GGUF_SUPPORTED_ARCHITECTURES"),
    ("transformers.integrations.gguf", "GGUF_ARCHS"),
)
_NOT_CONVERTIBLE = frozenset({"general", "tokenizer", "t5", "umt5"})
"""Groups of keys that stand in the same table, and encoder-decoders, which are not served."""


def convert(request: ConversionRequest, facts: GgufFacts) -> None:
    """Raises InvalidRequestError for what can't be converted, ModelLoadError for what vetting refuses, and whatever
    transformers raises."""
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()  # standard error is a log
    logging.set_verbosity_error()
    source, file = request.source, facts.file
    config = _config(source, facts)
    check_config(config.to_dict(), request.weight_bytes)
    restore_rope_scaling(config, facts.rope_scaling, facts.rope_factors)
    if type(config) not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _not_convertible(facts.architecture)
    auto_class: Any = transformers.AutoModelForCausalLM
    check_built_size(auto_class, config, request.weight_bytes, is_packed=True)
    model, info = auto_class.from_pretrained(
        source,
        gguf_file=file,
        config=config,
        dtype=getattr(torch, facts.dtype),
        output_loading_info=True,
        **_unpacked(),
        **_LOCAL,
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        # transformers would go on with random numbers in their place
        raise InvalidRequestError("some of the weights of this GGUF file are missing", param="files")
    _check_all_read(model, facts)
    transformers.AutoTokenizer.from_pretrained(source, gguf_file=file, **_LOCAL).save_pretrained(request.target)
    tokenizer = _without_strangers(request.target, facts.num_tokens)
    try_tokenizer(tokenizer)
    if len(tokenizer) > config.get_text_config().vocab_size:
        raise InvalidRequestError("this GGUF file has more tokens than its weights have", param="files")
    _name_special_tokens(model, tokenizer, facts.end_of_turn_id)
    model.save_pretrained(request.target, max_shard_size=_MAX_SHARD)
    vet(request.target)


def _check_all_read(model: Any, facts: GgufFacts) -> None:
    """transformers leaves out what it has no place for, such as the biases of a variant."""
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    read = sum(tensor.numel() for tensor in tensors.values())
    # some architectures tie their head always, and the file has it nevertheless
    head = model.get_input_embeddings().weight.numel() if model.config.tie_word_embeddings else 0
    if facts.num_elements not in (read, read + head):
        raise InvalidRequestError("this GGUF file has weights that can't be converted", param="files")


def _unpacked() -> dict[str, Any]:
    """What makes transformers unpack all blocks; a version that knows no other way has no such class."""
    config_class = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config_class(dequantize=True)} if config_class else {}


def _config(source: str, facts: GgufFacts) -> Any:
    """The configuration that transformers makes of the metadata."""
    try:
        return transformers.AutoConfig.from_pretrained(source, gguf_file=facts.file, **_LOCAL)
    except Exception as error:
        known = [_plain(architecture) for architecture in _architectures()]
        if known and _plain(facts.architecture) not in known:
            raise _not_convertible(facts.architecture) from error
        raise


def _not_convertible(architecture: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"models of the architecture {architecture!r} can't be converted from GGUF; these can: "
        + ", ".join(_architectures()),
        param="files",
    )


def _architectures() -> list[str]:
    """What this version of transformers reads and we can run; [] if it keeps its tables elsewhere."""
    tables: list[Any] = []
    for module, name in _TABLES:
        with contextlib.suppress(ImportError):
            tables.append(getattr(importlib.import_module(module), name, ()))
    return sorted({name for table in tables for name in table} - _NOT_CONVERTIBLE)


def _plain(architecture: str) -> str:
    """`qwen2moe` to GGUF is `qwen2_moe` to transformers."""
    return re.sub("[^a-z0-9]", "", architecture.lower())


def _without_strangers(target: str, num_tokens: int) -> Any:
    """The saved tokenizer without tokens that the file does not have: a tokenizer's class adds its own unknown token,
    for which the model has no row."""
    file = Path(target, "tokenizer.json")
    tokenizer = read_json(file)
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < num_tokens]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(target, **_LOCAL)


def _name_special_tokens(model: Any, tokenizer: Any, end_of_turn_id: int) -> None:
    """The configurations say what the tokenizer says; what GGUF leaves out would be the architecture's default."""
    ends = model.config.eos_token_id if isinstance(model.config.eos_token_id, list) else [tokenizer.eos_token_id]
    ends = [token_id for token_id in ends if token_id is not None]
    if 0 <= end_of_turn_id < len(tokenizer) and end_of_turn_id not in ends:
        ends.append(end_of_turn_id)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.pad_token_id = tokenizer.pad_token_id
        config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
