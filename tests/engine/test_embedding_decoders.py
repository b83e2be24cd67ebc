"""Decoders as embedding models, by their own pooling configuration: tiny, random, in the layout that the Hub has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, GPT2Config, PreTrainedConfig, Qwen3Config

from hugging_llama.engine.loader import Checkpoint, Loader, ModelKind
from hugging_llama.engine.pooling_tokens import PoolingTokenizer
from hugging_llama.errors import InvalidRequestError
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import TEMPLATE, byte_tokenizer
from tests.engine.embedding_clients import EmbeddingClient

VOCAB_SIZE = 300
TEXTS = ["a", "a longer text that decides the width of the batch", "", "short", "Grüße, 日本"]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
PROMPT = "Instruct: find what fits\nQuery: "

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: Qwen3Config(**_SIZES, num_key_value_heads=2, head_dim=8),
    # positions are absolute: padding on the left would move every token
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3
    ),
    "bert": lambda: BertConfig(**_SIZES),
}


def make_decoder(
    folder: Path,
    family: str = "qwen3",
    *,
    pooling: dict[str, Any] | None = None,
    modules: list[dict[str, Any]] | None = MODULES,
    prompts: dict[str, Any] | None = None,
    template: str | None = TEMPLATE,
    bare: bool = False,
    end_token: bool = True,
) -> Path:
    """A folder as Qwen3-Embedding's: the language model, left padding, an end token after every text."""
    auto: Any = AutoModel if bare else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto.from_config(CONFIGS[family]()).save_pretrained(folder)
    tokenizer = byte_tokenizer(template=template)
    if end_token:
        special = ("<|endoftext|>", tokenizer.convert_tokens_to_ids("<|endoftext|>"))
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {special[0]}", special_tokens=[special]
        )
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    files: dict[str, Any] = {"config_sentence_transformers.json": prompts or {}}
    if modules is not None:
        files["modules.json"] = modules
        files["1_Pooling/config.json"] = {"word_embedding_dimension": 32} | (
            pooling or {"pooling_mode_lasttoken": True}
        )
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder


def load(folder: Path) -> Checkpoint:
    return Loader(Settings(device="cpu")).load(str(folder))


def alone(checkpoint: Checkpoint, texts: list[str]) -> Any:
    """The library's vectors, one text at a time: no padding at all."""
    return checkpoint.model.encode(texts, batch_size=1, normalize_embeddings=True, show_progress_bar=False)


def ours(checkpoint: Checkpoint, texts: list[str]) -> Any:
    """The runner's vectors; those of all texts padded into one batch must be the same."""
    tokenizer = PoolingTokenizer(checkpoint.tokenizer, checkpoint.model, checkpoint.model.transformers_model.config)
    rows = tokenizer.rows(texts, limit=128, truncate=True)
    with torch.inference_mode():
        padded = checkpoint.model(tokenizer.features(rows, torch.device("cpu")))["sentence_embedding"]
    client = EmbeddingClient(checkpoint)
    answer = client.embed(texts)
    client.runner.close()
    assert answer.num_prompt_tokens == sum(row.length for row in rows)
    vectors = np.array(answer.vectors)
    assert np.abs(vectors - torch.nn.functional.normalize(padded).numpy()).max() < 1e-5
    return vectors


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("mode", ["lasttoken", "mean_tokens", "weightedmean_tokens", "max_tokens"])
def test_pooled_as_the_model_says_and_never_touched_by_padding(tmp_path: Path, family: str, mode: str) -> None:
    checkpoint = load(make_decoder(tmp_path, family, pooling={f"pooling_mode_{mode}": True}))
    assert checkpoint.kind is ModelKind.EMBEDDING
    vectors = ours(checkpoint, TEXTS)
    assert np.abs(vectors - alone(checkpoint, TEXTS)).max() < 1e-5
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert len({vector.tobytes() for vector in vectors}) == len(TEXTS)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_default_prompt(tmp_path: Path, include_prompt: bool) -> None:
    prompts = {"prompts": {"query": PROMPT, "document": ""}, "default_prompt_name": "query"}
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": include_prompt}
    checkpoint = load(make_decoder(tmp_path, pooling=pooling, prompts=prompts))
    assert np.abs(ours(checkpoint, TEXTS) - alone(checkpoint, TEXTS)).max() < 1e-5
    unprompted = checkpoint.model.encode(TEXTS, prompt="", normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(ours(checkpoint, TEXTS) - unprompted).max() > 1e-3


def test_the_end_token_survives_truncation(tmp_path: Path) -> None:
    checkpoint = load(make_decoder(tmp_path))
    client = EmbeddingClient(checkpoint)
    long = client.embed(["x" * 1000, "yyyyyyy"], context_length=8)
    assert long.num_prompt_tokens == 16
    assert np.abs(np.array(long.vectors) - alone(checkpoint, ["x" * 7, "y" * 7])).max() < 1e-5
    assert client.embed(["x" * 1000]).num_prompt_tokens == 128
    client.runner.close()


def test_a_text_without_tokens_is_refused(tmp_path: Path) -> None:
    client = EmbeddingClient(load(make_decoder(tmp_path, end_token=False)))
    with pytest.raises(InvalidRequestError, match="empty text"):
        client.send(1, ["word", ""])
    assert client.embed(["word"]).num_prompt_tokens == 4
    client.runner.close()


@pytest.fixture
def chat_checkpoint(tmp_path: Path) -> Checkpoint:
    """A model saved for chat messages: the library wraps every text in the model's template."""
    modality = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"text": modality, "message": modality | {"format": "flat"}}
    config = {"modality_config": modalities, "module_output_name": "token_embeddings"}
    folder = make_decoder(tmp_path)
    (folder / "sentence_bert_config.json").write_text(json.dumps(config))
    return load(folder)


def test_a_model_for_messages_gets_its_template(chat_checkpoint: Checkpoint) -> None:
    texts = TEXTS[:2]
    assert np.abs(ours(chat_checkpoint, texts) - alone(chat_checkpoint, texts)).max() < 1e-5
    client = EmbeddingClient(chat_checkpoint)
    count = client.embed(["abc"]).num_prompt_tokens
    assert count > len("abc") + 4
    assert client.embed(["abc" * 100], context_length=count + 5).num_prompt_tokens == count + 5
    client.runner.close()


@pytest.mark.parametrize(
    "options", [{"modules": None, "bare": True}, {"modules": MODULES[:1]}, {"modules": [MODULES[0], MODULES[2]]}]
)
def test_a_decoder_without_a_pooling_configuration_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = make_decoder(tmp_path, **options)
    with pytest.raises(InvalidRequestError, match=r"no pooling configuration \(modules.json") as caught:
        load(folder)
    assert str(tmp_path) not in caught.value.message


def test_an_encoder_without_one_is_averaged(tmp_path: Path) -> None:
    checkpoint = load(make_decoder(tmp_path, "bert", modules=None, bare=True, template=None))
    assert np.abs(ours(checkpoint, TEXTS) - alone(checkpoint, TEXTS)).max() < 1e-5


def test_a_vector_may_keep_its_length(tmp_path: Path) -> None:
    checkpoint = load(make_decoder(tmp_path, pooling={"pooling_mode_mean_tokens": True}))
    client = EmbeddingClient(checkpoint)
    library = checkpoint.model.encode(TEXTS[:3], show_progress_bar=False)
    raw = np.array(client.embed(TEXTS[:3], normalize=False).vectors)
    cut = np.array(client.embed(TEXTS[:3], normalize=False, dimensions=4).vectors)
    client.runner.close()
    assert np.abs(raw - library).max() < 1e-4
    assert np.abs(cut - library[:, :4]).max() < 1e-4
    assert np.linalg.norm(cut, axis=1).max() < 0.99
