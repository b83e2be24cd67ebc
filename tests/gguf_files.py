"""Models as GGUF files, written by llama.cpp's own package."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaForCausalLM

from tests.engine.checkpoints import DEMO, TEMPLATE, byte_tokenizer, make_checkpoint, make_tokenizer

_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}


def make_small(folder: Path) -> Path:
    """A random llama of 35,000 weights whose matrices divide into blocks, as transformers has it."""
    text = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    # GGUF has no byte-level vocabulary without merges
    vocabulary = text["model"]["vocab"] | {token["content"]: token["id"] for token in text["added_tokens"]}
    text["model"] |= {"vocab": vocabulary | {"he": len(vocabulary)}, "merges": [["h", "e"]]}
    tokenizer = make_tokenizer(
        tokenizer_object=Tokenizer.from_str(json.dumps(text)), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    return make_checkpoint(folder, tokenizer, vocab_size=len(tokenizer), intermediate_size=64)


def write_gguf(target: Path, kind: str = "F16", source: Path = DEMO, **more: Any) -> Path:
    """The llama in the folder `source` as one file; matrices are of `kind`, norms F32.

    `more` are further methods of the writer with their argument, such as `add_type="adapter"`; tensors named in
    `leave_out` are not written.
    """
    left_out = more.pop("leave_out", ())
    model = LlamaForCausalLM.from_pretrained(source)
    config: Any = model.config
    writer = gguf.GGUFWriter(target, more.pop("architecture", "llama"))
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, AutoTokenizer.from_pretrained(source))
    for method, value in more.items():
        getattr(writer, method)(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        short = names.get_name(name, try_suffixes=(".weight",))
        assert short is not None
        if short in left_out or (short == "output.weight" and config.tie_word_embeddings):
            continue
        _add_tensor(writer, short, _permuted(name, tensor.float().numpy(), config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: Any, kind: str) -> None:
    wanted = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
    writer.add_tensor(name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)


def _permuted(name: str, values: Any, config: Any) -> Any:
    """llama.cpp rotates neighbours where transformers rotates halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    number = next((count for part, count in heads.items() if part in name), None)
    if number is None:
        return values
    rows = values.reshape(number, 2, values.shape[0] // number // 2, *values.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(values.shape))


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    added = tokenizer.added_tokens_decoder
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
    types = [
        kinds[added[number].special] if number in added else gguf.TokenType.NORMAL for number in range(len(tokens))
    ]
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _merges(tokenizer: Any) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return merges
