"""What a model can do, told from its configuration, its chat template and the tokens its tokenizer was given."""

import json
from collections.abc import Mapping
from typing import Any

from hugging_llama.neutral.infill import infill_format, takes_suffix
from hugging_llama.neutral.models import Capability
from hugging_llama.parsing.thinking_tags import has_channels, thinking_tags
from hugging_llama.store import selection
from hugging_llama.store.classifiers import classifier_capabilities, cross_encoder_capabilities
from hugging_llama.store.snapshot import Snapshot
from hugging_llama.store.tokenizer_names import TOKENIZER_CONFIG, is_vocabulary
from hugging_llama_config.regular_file import open_regular

_GENERATIVE = ("ForCausalLM", "LMHeadModel")
_ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining")
_CLASSIFIERS = ("ForSequenceClassification",)
_HEAD_BYTES = 2 * 2**20
"""A tokenizer.json of many megabytes names its added tokens at the beginning."""


def capabilities(snapshot: Snapshot, config: Mapping[str, Any]) -> tuple[Capability, ...]:
    """What can be asked of the model; empty if it is of a kind that is not served."""
    if selection.MODULES in snapshot.files:
        kind = snapshot.json("config_sentence_transformers.json").get("model_type", "SentenceTransformer")
        if kind == "CrossEncoder":
            return cross_encoder_capabilities(snapshot, config)
        return (Capability.EMBEDDING,) if kind == "SentenceTransformer" else ()
    architectures = _architectures(config)
    if is_generative(config):
        template = chat_template(snapshot)
        can_insert = takes_suffix(template) or infill_format(_added_tokens(snapshot)) is not None
        insert = (Capability.INSERT,) if can_insert else ()
        return (Capability.COMPLETION, *_template_capabilities(template), *insert)
    if _reads_text(config) and (TOKENIZER_CONFIG in snapshot.files or any(map(is_vocabulary, snapshot.files))):
        if any(name.endswith(_CLASSIFIERS) for name in architectures):
            return classifier_capabilities(config)
        if any(name.endswith(_ENCODERS) for name in architectures):
            return (Capability.EMBEDDING,)
    return ()


def with_template(found: tuple[Capability, ...], template: str) -> tuple[Capability, ...]:
    """The capabilities of a model that has been given another chat template, "" for none."""
    if not template or Capability.COMPLETION not in found:
        return found
    can_insert = takes_suffix(template) or Capability.INSERT in found
    insert = (Capability.INSERT,) if can_insert else ()
    return (Capability.COMPLETION, *_template_capabilities(template), *insert)


def is_generative(config: Mapping[str, Any]) -> bool:
    """Whether a model of this configuration writes text."""
    return any(_is_generative(name, config) for name in _architectures(config))


def is_of_served_kind(config: Mapping[str, Any]) -> bool:
    """Whether a model of transformers with this configuration writes, embeds or classifies text."""
    is_reader = any(name.endswith((*_CLASSIFIERS, *_ENCODERS)) for name in _architectures(config))
    return is_generative(config) or (is_reader and _reads_text(config))


def chat_template(snapshot: Snapshot) -> str:
    """The Jinja text of the chat template and of its named variants; "" if there is none."""
    if text := snapshot.text("chat_template.jinja"):
        return text
    for path in ("chat_template.json", "tokenizer_config.json"):
        template = snapshot.json(path).get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):  # [{"name": "default", "template": …}, {"name": "tool_use", …}]
            texts = [part.get("template") for part in template if isinstance(part, dict)]
            return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _added_tokens(snapshot: Snapshot) -> frozenset[str]:
    """The texts of the tokens that a tokenizer was given beside those it learned, as far as its files say cheaply."""
    decoder = snapshot.json("tokenizer_config.json").get("added_tokens_decoder")
    named = list(decoder.values()) if isinstance(decoder, dict) else []
    texts = (token.get("content") for token in named + _listed_tokens(snapshot) if isinstance(token, dict))
    return frozenset(text for text in texts if isinstance(text, str))


def _listed_tokens(snapshot: Snapshot) -> list[Any]:
    if "tokenizer.json" not in snapshot.files:
        return []
    try:
        with open_regular(snapshot.place("tokenizer.json")) as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "ignore")
        _, found, rest = head.partition('"added_tokens"')
        value, _ = json.JSONDecoder().raw_decode(rest.lstrip(" \t\r\n:")) if found else ([], 0)
    except (OSError, ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _template_capabilities(template: str) -> tuple[Capability, ...]:
    found = []
    if "tools" in template:
        found.append(Capability.TOOLS)
    if has_channels(template) or thinking_tags(template) is not None:
        found.append(Capability.THINKING)
    return tuple(found)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _is_generative(architecture: str, config: Mapping[str, Any]) -> bool:
    if config.get("is_encoder_decoder"):  # the engine's step loop has no cross-attention
        return False
    if architecture.endswith(_GENERATIVE):
        return True
    # Vision-language models carry a language model in `text_config` and answer to text alone, too.
    return architecture.endswith("ForConditionalGeneration") and isinstance(config.get("text_config"), dict)


def _reads_text(config: Mapping[str, Any]) -> bool:
    """Text and nothing else, in one piece."""
    is_text = type(config.get("vocab_size")) is int and not {"vision_config", "audio_config"} & config.keys()
    return is_text and not config.get("is_encoder_decoder")
