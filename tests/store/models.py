"""Small repositories to pull: real safetensors files, made from nothing."""

import hashlib
import json
import random
import struct
from typing import Any

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "max_position_embeddings": 512,
    "vocab_size": 100,
}
TOKENIZER = b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}'


def long_tokenizer() -> bytes:
    """A tokenizer.json that makes 10**18 letters of one."""
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    return json.dumps(json.loads(TOKENIZER) | {"normalizer": {"type": "Sequence", "normalizers": [rule] * 6}}).encode()


def safetensors(tensors: dict[str, tuple[str, tuple[int, ...]]], seed: int = 0) -> bytes:
    """A file with these tensors, name -> (dtype, shape), filled with pseudo-random bytes."""
    bits = {"F32": 32, "F16": 16, "BF16": 16, "I8": 8}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = bits[dtype] // 8
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(offset)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chat_model(weight_bytes: int = 4096, seed: int = 0) -> dict[str, bytes]:
    """A chat model's repository with one weight file of about this size, and things that must stay behind."""
    return {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "README.md": b"# A model\n",
        "LICENSE": b"Do as you like\n",
        "picture.png": b"\x89PNG",
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": TOKENIZER,
        "tokenizer_config.json": json.dumps({"chat_template": "{{ tools }}<think>"}).encode(),
        "modeling_custom.py": b"raise SystemExit\n",
        "pytorch_model.bin": b"\x80\x04.",
        "onnx/model.onnx": b"onnx",
        "original/consolidated.safetensors": safetensors({"w": ("F32", (8,))}),
        "consolidated.safetensors": safetensors({"w": ("F32", (8,))}),
        "model.fp16.safetensors": safetensors({"w": ("F16", (8,))}),
        "adapter_model.safetensors": safetensors({"w": ("F32", (8,))}),
        "model.Q4_K_M.gguf": b"GGUF",
        "tf_model.h5": b"h5",
        "flax_model.msgpack": b"flax",
        "openvino/openvino_model.xml": b"<xml/>",
        "runs/today/events.out.tfevents.1": b"event",
        "checkpoint-10/model.safetensors": safetensors({"w": ("F32", (8,))}),
        "optimizer.pt": b"\x80\x04.",
        "training_args.bin": b"\x80\x04.",
        "trainer_state.json": b"{}",
        "model.safetensors": safetensors({"w": ("BF16", (weight_bytes // 2,))}, seed),
    }


KEPT = {"README.md", "LICENSE", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


def sharded_model() -> dict[str, bytes]:
    """Two shards and an index."""
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": TOKENIZER,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": safetensors({"a": ("F16", (1000,))}, 1),
        "model-00002-of-00002.safetensors": safetensors({"b": ("F16", (500,))}, 2),
        "model-extra.safetensors": safetensors({"c": ("F16", (5,))}, 3),
    }


def sentence_model() -> dict[str, bytes]:
    """A sentence-transformers repository."""
    modules = [{"idx": 0, "path": "", "type": "T"}, {"idx": 1, "path": "1_Pooling", "type": "P"}]
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8, "vocab_size": 10}
    return {
        "config.json": json.dumps(config).encode(),
        "modules.json": json.dumps(modules).encode(),
        "sentence_bert_config.json": b'{"max_seq_length": 256}',
        "1_Pooling/config.json": b"{}",
        "vocab.txt": b"a\nb\n",
        "model.safetensors": safetensors({"w": ("F32", (30,))}),
    }


def adapter(base: str = "acme/base") -> dict[str, bytes]:
    """A repository of a LoRA adapter as a training leaves it."""
    return {
        "README.md": b"# An adapter\n",
        "LICENSE": b"Do as you like\n",
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": base}).encode(),
        "adapter_model.safetensors": safetensors({"base_model.model.q.lora_A.weight": ("F32", (4, 8))}),
        "adapter_model.bin": b"\x80\x04.",
        "tokenizer.json": TOKENIZER,
        "trainer_state.json": b"{}",
        "optimizer.pt": b"\x80\x04.",
        "checkpoint-10/adapter_model.safetensors": safetensors({"w": ("F32", (8,))}),
    }


def low_rank(
    layer: str = "model.layers.0.self_attn.q_proj", rank: int = 2, features: tuple[int, int] = (256, 256), **config: Any
) -> dict[str, bytes]:
    """A LoRA adapter of one layer, of the bundled demo model if nothing else is said; features are out and in."""
    name, (out_features, in_features) = f"base_model.model.{layer}", features
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        f"{name}.lora_A.weight": ("F32", (rank, in_features)),
        f"{name}.lora_B.weight": ("F32", (out_features, rank)),
    }
    return {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 8, **config}).encode(),
        "adapter_model.safetensors": safetensors(tensors),
    }
