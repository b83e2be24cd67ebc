"""Folders of tiny random models with classification heads: encoders, decoders, and cross-encoders as the library saves
them. Random weights are large, so that scores differ and a wrong token, mask or position shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    XLMRobertaConfig,
    XLNetConfig,
)

from tests.engine.checkpoints import byte_tokenizer

VOCAB_SIZE = 300
CONTEXT = 128
PAIR_TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + ': ' + m.content + '<|im_end|>' }}{%- endfor -%}"
    "{{ 'relevant?' }}"
)

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "initializer_range": 0.3,
}  # fmt: skip
_DECODER = _SIZES | {"num_key_value_heads": 2, "tie_word_embeddings": False}
CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "bert": lambda **more: BertConfig(**_SIZES | more),
    # positions are counted from the padding's, which takes two of them away
    "xlm-roberta": lambda **more: XLMRobertaConfig(
        **_SIZES | {"pad_token_id": 1, "max_position_embeddings": CONTEXT + 2} | more
    ),
    "modernbert": lambda **more: ModernBertConfig(
        **_SIZES | {"pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8} | more
    ),
    "deberta-v2": lambda **more: DebertaV2Config(
        **_SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16} | more
    ),
    "llama": lambda **more: LlamaConfig(**_DECODER | {"pad_token_id": 0} | more),
    "qwen2": lambda **more: Qwen2Config(**_DECODER | {"pad_token_id": 256} | more),
    # positions are absolute: padding on the left would move every token
    "gpt2": lambda **more: GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.3,
        **{"pad_token_id": 0} | more,
    ),
    # reads the last place of a row, whatever stands there
    "xlnet": lambda **more: XLNetConfig(
        vocab_size=VOCAB_SIZE, d_model=32, n_layer=2, n_head=4, d_inner=48, initializer_range=0.3, **more
    ),
}  # fmt: skip
ENCODERS = ("bert", "xlm-roberta", "modernbert", "deberta-v2")
DECODERS = ("llama", "qwen2", "gpt2")


def make_classifier(folder: Path, family: str = "bert", *, template: str | None = None, **config: Any) -> Path:
    """A folder as transformers saves it; `config` may hold `num_labels`, `id2label`, `problem_type` and so on."""
    values = config if "id2label" in config else {"num_labels": 1} | config
    _save(AutoModelForSequenceClassification, CONFIGS[family](**values), folder)
    tokenizer = pair_tokenizer() if family in ENCODERS else byte_tokenizer(template=template)
    tokenizer.save_pretrained(folder)
    return folder


def make_writer(folder: Path, *, template: str | None = PAIR_TEMPLATE) -> Path:
    """A causal language model, of which a cross-encoder can be made."""
    _save(AutoModelForCausalLM, CONFIGS["qwen2"](), folder)
    byte_tokenizer(template=template).save_pretrained(folder)
    return folder


def make_causal_reranker(folder: Path, *, template: str | None = PAIR_TEMPLATE) -> Path:
    """As Qwen3-Reranker: a language model asked for one of two tokens, saved as a cross-encoder."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    writer = make_writer(folder / "writer", template=template)
    transformer = Transformer(str(writer), transformer_task="text-generation")
    CrossEncoder(modules=[transformer, LogitScore(88, 77)], device="cpu").save(str(folder / "reranker"))
    return folder / "reranker"


def make_cross_encoder(folder: Path, family: str = "bert", **options: Any) -> Path:
    """A classifier of transformers that sentence-transformers has saved again."""
    from sentence_transformers import CrossEncoder

    source = make_classifier(folder / "source", family, **options.pop("config", {}))
    CrossEncoder(str(source), device="cpu", **options).save(str(folder / "saved"))
    return folder / "saved"


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, with a token at the beginning, between and at the end, and types that tell the two texts apart."""
    tokenizer = byte_tokenizer(template=None)
    start, end = ("<|im_start|>", 257), ("<|im_end|>", 258)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}",
        pair=f"{start[0]} $A {end[0]} $B:1 {end[0]}:1",
        special_tokens=[start, end],
    )
    return tokenizer


def _save(auto_class: Any, config: PreTrainedConfig, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto_class.from_config(config).save_pretrained(folder)
