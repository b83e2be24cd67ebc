"""What a model with a classification head can do: give labels to texts, and say how well a document fits a query."""

from collections.abc import Mapping, Sequence
from typing import Any

from hugging_llama.neutral.models import Capability
from hugging_llama.store import selection
from hugging_llama.store.snapshot import Snapshot

_HEAD = "sequence-classification"
_USUAL_LABELS = 2
"""Of a configuration that says nothing."""


def classifier_capabilities(config: Mapping[str, Any]) -> tuple[Capability, ...]:
    """Of a model of transformers: one label is a relevance."""
    rerank = (Capability.RERANK,) if num_labels(config) == 1 else ()
    return (Capability.CLASSIFICATION, *rerank)


def cross_encoder_capabilities(snapshot: Snapshot, config: Mapping[str, Any]) -> tuple[Capability, ...]:
    """Of a model that sentence-transformers has saved: its last module makes the scores."""
    modules = snapshot.json_list(selection.MODULES)
    kinds = [_kind(module) for module in modules]
    if not all(kinds) or kinds[:1] != ["Transformer"]:
        return ()
    if kinds[-1] == "LogitScore":  # how much likelier one token is than another, behind a query and a document
        return (Capability.RERANK,)
    if kinds[-1] == "Transformer":
        task = snapshot.json("sentence_bert_config.json").get("transformer_task")
        return classifier_capabilities(config) if task == _HEAD else ()
    is_single = snapshot.json(f"{modules[-1].get('path')}/config.json").get("out_features") == 1
    return (Capability.CLASSIFICATION, *((Capability.RERANK,) if is_single else ()))


def is_causal_reranker(found: Sequence[Capability]) -> bool:
    """Whether these are the capabilities of a language model whose scores are logits of tokens."""
    return Capability.RERANK in found and Capability.CLASSIFICATION not in found


def num_labels(config: Mapping[str, Any]) -> int:
    """As transformers counts them."""
    named, number = config.get("id2label"), config.get("num_labels")
    if isinstance(named, dict):
        return len(named)
    return number if type(number) is int else _USUAL_LABELS


def _kind(module: object) -> str:
    """The name of its class; "" for what is no module."""
    name = module.get("type") if isinstance(module, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""
