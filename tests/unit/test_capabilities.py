"""What a model can do and what it is, told from its files."""

import json
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.neutral.models import Capability
from hugging_llama.store.capabilities import capabilities, with_template
from hugging_llama.store.details import model_details
from hugging_llama.store.safetensors_header import read_all_tensors
from hugging_llama.store.snapshot import read_snapshot
from tests.store.models import safetensors

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 10}
TEXT = Capability.COMPLETION
CLASSIFICATION = Capability.CLASSIFICATION
RERANKER = {Capability.RERANK, CLASSIFICATION}


def _write(folder: Path, config: Any, files: dict[str, str]) -> None:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors({"w": ("BF16", (4, 4)), "n": ("F32", (4,))}))
    for path, text in files.items():
        (folder / path).write_text(text)


def _capabilities(folder: Path, config: Any, files: dict[str, str]) -> set[Capability]:
    _write(folder, config, files)
    found = read_snapshot(str(folder))
    return set(capabilities(found, found.json("config.json")))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, {TEXT}),
        ({"architectures": ["GPT2LMHeadModel"]}, {TEXT}),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}, "vision_config": {}}, {TEXT}),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, set()),
        ({"architectures": ["BertModel"], "vocab_size": 9}, {Capability.EMBEDDING}),
        ({"architectures": ["XLMRobertaForMaskedLM"], "vocab_size": 9}, {Capability.EMBEDDING}),
        ({"architectures": ["ViTModel"]}, set()),
        ({"architectures": ["CLIPModel"], "vocab_size": 9, "vision_config": {}}, set()),
        ({"architectures": ["BertForSequenceClassification"], "vocab_size": 9}, {CLASSIFICATION}),
        ({"architectures": ["BertForSequenceClassification"], "vocab_size": 9, "num_labels": 1}, RERANKER),
        ({"architectures": ["LlamaForSequenceClassification"], "vocab_size": 9, "id2label": {"0": "a"}}, RERANKER),
        ({"architectures": ["XForSequenceClassification"], "vocab_size": 9, "id2label": [1]}, {CLASSIFICATION}),
        ({"architectures": ["ViTForSequenceClassification"]}, set()),
        (
            {"architectures": ["BartForSequenceClassification"], "vocab_size": 9, "is_encoder_decoder": True},
            set(),
        ),
        ({"architectures": "LlamaForCausalLM"}, set()),
        ({"architectures": [1, None, {}]}, set()),
        ({}, set()),
        ("[]", set()),
        ("{", set()),
        ("[" * 100_000, set()),
    ],
)
def test_from_the_configuration(tmp_path: Path, config: Any, expected: set[Capability]) -> None:
    assert _capabilities(tmp_path, config, {"tokenizer.json": "{}"}) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {TEXT}),
        ({"chat_template.jinja": "{{ messages }}"}, {TEXT}),
        ({"chat_template.jinja": "{% if tools %}"}, {TEXT, Capability.TOOLS}),
        ({"chat_template.jinja": "{% if enable_thinking %}"}, {TEXT, Capability.THINKING}),
        (
            {"tokenizer_config.json": '{"chat_template": "tools <think>"}'},
            {TEXT, Capability.TOOLS, Capability.THINKING},
        ),
        (
            {"tokenizer_config.json": '{"chat_template": [{"name": "a", "template": "x"}, {"template": "tools"}, 1]}'},
            {TEXT, Capability.TOOLS},
        ),
        ({"chat_template.json": '{"chat_template": "tools"}'}, {TEXT, Capability.TOOLS}),
        ({"tokenizer_config.json": '{"chat_template": 1}'}, {TEXT}),
        ({"modules.json": "[]", "chat_template.jinja": "tools"}, {Capability.EMBEDDING}),
        ({"modules.json": "[]", "config_sentence_transformers.json": '{"model_type": "CrossEncoder"}'}, set()),
    ],
)
def test_from_the_other_files(tmp_path: Path, files: dict[str, str], expected: set[Capability]) -> None:
    assert _capabilities(tmp_path, LLAMA, files) == expected


def _modules(*kinds: str) -> str:
    """A modules.json with these modules of sentence-transformers, the first one in the model's own folder."""
    return json.dumps([{"path": f"{n}_{kind}" if n else "", "type": f"st.{kind}"} for n, kind in enumerate(kinds)])


@pytest.mark.parametrize(
    ("modules", "task", "labels", "out", "expected"),
    [
        (("Transformer",), "sequence-classification", {"0": "fit"}, 0, RERANKER),
        (("Transformer",), "sequence-classification", {"0": "no", "1": "yes"}, 0, {CLASSIFICATION}),
        (("Transformer",), "feature-extraction", {"0": "fit"}, 0, set()),
        (("Transformer", "LogitScore"), "text-generation", {}, 0, {Capability.RERANK}),
        (("Transformer", "Pooling", "Dense"), "feature-extraction", {}, 1, RERANKER),
        (("Transformer", "Pooling", "Dense"), "feature-extraction", {}, 3, {CLASSIFICATION}),
        (("Pooling",), "sequence-classification", {"0": "fit"}, 0, set()),
        ((), "sequence-classification", {"0": "fit"}, 0, set()),
    ],
)
def test_cross_encoders(
    tmp_path: Path, modules: tuple[str, ...], task: str, labels: dict[str, str], out: int, expected: set[Capability]
) -> None:
    files = {
        "modules.json": _modules(*modules),
        "config_sentence_transformers.json": '{"model_type": "CrossEncoder"}',
        "sentence_bert_config.json": json.dumps({"transformer_task": task}),
    }
    if "Dense" in modules:
        (tmp_path / "2_Dense").mkdir()
        files["2_Dense/config.json"] = json.dumps({"out_features": out})
    assert _capabilities(tmp_path, LLAMA | {"id2label": labels}, files) == expected


@pytest.mark.parametrize(
    "modules", ["{", "{}", "[1, null]", '[{"type": 5}]', '[{"type": "Transformer"}, "x"]', "[" * 100_000]
)
def test_a_cross_encoder_whose_modules_make_no_sense(tmp_path: Path, modules: str) -> None:
    files = {"modules.json": modules, "config_sentence_transformers.json": '{"model_type": "CrossEncoder"}'}
    assert _capabilities(tmp_path, LLAMA, files) == set()


FIM = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
INSERT = Capability.INSERT


def _tokenizer(*tokens: str) -> str:
    added = [{"id": number, "content": token, "special": True} for number, token in enumerate(tokens)]
    return json.dumps({"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": {}}})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer.json": _tokenizer("<s>", *FIM)}, {TEXT, INSERT}),
        ({"tokenizer.json": _tokenizer(*FIM[:2])}, {TEXT}),
        ({"tokenizer.json": _tokenizer("[PREFIX]", "[SUFFIX]")}, {TEXT, INSERT}),
        ({"tokenizer.json": _tokenizer(*FIM)[:-40]}, {TEXT, INSERT}),
        ({"tokenizer.json": _tokenizer(*FIM)[:100]}, {TEXT}),
        ({"tokenizer.json": '{"x": "' + "y" * 2**21 + '", ' + _tokenizer(*FIM)[1:]}, {TEXT}),
        ({"tokenizer.json": '{"added_tokens": ' + "[" * 100_000}, {TEXT}),
        ({"tokenizer.json": '{"added_tokens": {"a": 1}}'}, {TEXT}),
        ({"tokenizer.json": '{"added_tokens": [1, {"content": 2}, null]}'}, {TEXT}),
        (
            {"tokenizer_config.json": json.dumps({"added_tokens_decoder": {t: {"content": t} for t in FIM}})},
            {TEXT, INSERT},
        ),
        ({"tokenizer_config.json": '{"added_tokens_decoder": {"1": "<fim_prefix>"}}'}, {TEXT}),
        ({"chat_template.jinja": "{{ prompt }}{{ suffix }}"}, {TEXT, INSERT}),
        ({"chat_template.jinja": "{{ 'suffix' }}"}, {TEXT}),
    ],
)
def test_who_can_fill_a_gap(tmp_path: Path, files: dict[str, str], expected: set[Capability]) -> None:
    assert _capabilities(tmp_path, LLAMA, files) == expected


def test_another_template_makes_other_capabilities() -> None:
    everything = (TEXT, Capability.TOOLS, Capability.THINKING, INSERT)
    assert with_template(everything, "") == everything
    assert with_template(everything, "{{ messages }}") == (TEXT, INSERT)
    assert with_template((TEXT,), "{% if tools and enable_thinking %}") == everything[:3]
    assert with_template((TEXT,), to_jinja("{{ .Prompt }}{{ .Suffix }}")) == (TEXT, INSERT)
    assert with_template((TEXT,), to_jinja("{{ .Suffix }}{{ range .Messages }}{{ .ToolCalls | len }}{{ end }}")) == (
        TEXT,
        INSERT,
    )
    assert with_template((Capability.EMBEDDING,), "{{ tools }}") == (Capability.EMBEDDING,)


@pytest.mark.parametrize(
    ("config", "family", "level", "context", "embedding"),
    [
        (LLAMA | {"max_position_embeddings": 7, "hidden_size": 8}, "llama", "BF16", 7, 8),
        ({"model_type": "gpt2", "n_positions": 5, "n_embd": 6}, "gpt2", "BF16", 5, 6),
        ({"text_config": {"max_position_embeddings": 3, "hidden_size": 4}}, "unknown", "BF16", 3, 4),
        (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "llama", "GPTQ-4BIT", None, None),
        (LLAMA | {"quantization_config": {"quant_method": "fp8"}}, "llama", "FP8", None, None),
        ({"model_type": 3, "max_position_embeddings": "9", "hidden_size": True}, "unknown", "BF16", None, None),
        ({"max_position_embeddings": -1, "hidden_size": 10**30, "text_config": []}, "unknown", "BF16", None, None),
    ],
)
def test_details(
    tmp_path: Path, config: Any, family: str, level: str, context: int | None, embedding: int | None
) -> None:
    _write(tmp_path, config, {})
    found = read_snapshot(str(tmp_path))
    details = model_details(found, found.json("config.json"), read_all_tensors(map(found.place, found.weights)))
    assert (details.format, details.family, details.quantization_level) == ("safetensors", family, level)
    assert (details.parameter_count, details.context_length, details.embedding_length) == (20, context, embedding)
