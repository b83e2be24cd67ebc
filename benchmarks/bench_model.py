"""A random model of a given size with a tokenizer that has a text for every id, put into a Hub cache."""

import hashlib
import itertools
import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

REPO = "bench/qwen2-0.5b-random"
VOCAB_SIZE = 151936


def byte_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """One token a byte when encoding; every further id decodes to a made-up word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ("Ġ" + "".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=4))
    vocab = {token: number for number, token in enumerate([*alphabet, *itertools.islice(words, vocab_size - 256)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def make_model(hub_cache: Path) -> Path:
    """Qwen2 0.5B's shape, bf16, random weights, no end token. Returns the snapshot's folder; made once."""
    root = hub_cache / f"models--{REPO.replace('/', '--')}"
    commit = hashlib.sha1(REPO.encode()).hexdigest()
    snapshot = root / "snapshots" / commit
    if (root / "refs" / "main").exists():
        return snapshot
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        vocab_size=VOCAB_SIZE, tie_word_embeddings=True, max_position_embeddings=8192,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(snapshot)
    byte_tokenizer(VOCAB_SIZE).save_pretrained(snapshot)
    # the saved default would be the class's own end token
    generation = snapshot / "generation_config.json"
    generation.write_text(json.dumps({"do_sample": False}))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    return snapshot
