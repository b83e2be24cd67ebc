"""Model folders made on the spot: a tiny random llama with a byte-level or a SentencePiece-like tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

make_tokenizer: Any = PreTrainedTokenizerFast

DEMO = Path(__file__).parents[2] / "app" / "hugging_llama" / "demo_model"

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

THINKING_TEMPLATE = TEMPLATE.replace(
    "assistant\\n' }}", "assistant\\n' + ('<think>\\n' if enable_thinking else '<think></think>') }}"
)


def byte_tokenizer(*, template: str | None = TEMPLATE, markers: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """256 bytes and a few special tokens: every text can be written, and a character takes up to four tokens."""
    vocabulary = {text: number for number, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    backend.add_tokens([AddedToken(text, special=False) for text in markers])
    tokenizer: PreTrainedTokenizerFast = make_tokenizer(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """Like SentencePiece: words carry their space, a begin-of-text token, unknown characters as bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁sky", "▁is", "▁blue", "blue"]
    pieces += list("abcdefghijklmnopqrstuvwxyz.,!?ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    backend = Tokenizer(
        models.Unigram([(piece, -float(len(piece) == 1)) for piece in pieces], unk_id=0, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer: PreTrainedTokenizerFast = make_tokenizer(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    return tokenizer


def make_checkpoint(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, **sizes: Any) -> Path:
    """A folder with a random model of a few thousand weights; more logits than tokens, as real models have."""
    tokenizer = tokenizer or byte_tokenizer()
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 29,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(values | sizes)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_json(file: Path, **values: Any) -> None:
    """Sets keys of a JSON object in a file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
