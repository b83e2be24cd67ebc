"""The bench model's weights as GGUF files, for llama.cpp: the same bf16 numbers, then Q8_0 and Q4_0 of them.

python -m benchmarks.gguf_model --llama-quantize PATH

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; tensor names: the `gguf` package's own table.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file

from benchmarks.bench_model import gguf_path, make_model, merges, vocabulary

QUANTIZED = ("Q8_0", "Q4_0")


def write_bf16(snapshot: Path, target: Path) -> None:
    """All tensors of `snapshot` into one file; matrices stay bf16, norms and biases become float32."""
    config = json.loads((snapshot / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "qwen2")
    _add_shape(writer, config)
    _add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for name, tensor in load_file(snapshot / "model.safetensors").items():
        short = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if short is None:
            raise ValueError(f"llama.cpp has no tensor for {name}")
        if tensor.ndim == 1:
            writer.add_tensor(short, tensor.float().numpy())
        else:
            raw = tensor.contiguous().view(torch.uint8).numpy()
            writer.add_tensor(short, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope = config.get("rope_parameters") or config
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = vocabulary()
    types = [gguf.TokenType.CONTROL if token.startswith("<|") else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges()])
    writer.add_add_bos_token(False)


def make_gguf(hub_cache: Path, llama_quantize: Path) -> None:
    """Writes those of BF16, Q8_0 and Q4_0 that are not there yet."""
    snapshot = make_model(hub_cache)
    bf16 = gguf_path(hub_cache, "BF16")
    if not bf16.exists():
        bf16.parent.mkdir(parents=True, exist_ok=True)
        part = bf16.with_suffix(".part")
        write_bf16(snapshot, part)
        part.rename(bf16)
    for kind in QUANTIZED:
        target = gguf_path(hub_cache, kind)
        if not target.exists():
            part = target.with_suffix(".part")
            subprocess.run([llama_quantize, bf16, part, kind], check=True, capture_output=True)
            part.rename(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache"), help="where the random weights are kept")
    parser.add_argument("--llama-quantize", type=Path, required=True)
    arguments = parser.parse_args()
    make_gguf(arguments.cache.absolute(), arguments.llama_quantize)
