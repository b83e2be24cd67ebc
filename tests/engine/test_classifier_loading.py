"""Which files make a classifier, and which are refused: damaged ones, unknown kinds, and those made to do harm."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForSequenceClassification, BertConfig, BertModel

from hugging_llama.engine.loader import Loader, ModelKind
from hugging_llama.errors import HuggingLlamaError, ModelLoadError
from hugging_llama.neutral.models import Capability
from hugging_llama.store.facts import FolderFacts, ModelFacts
from hugging_llama_config.model_memory import estimate
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import edit_json
from tests.engine.classifier_files import (
    CONFIGS,
    make_causal_reranker,
    make_classifier,
    make_cross_encoder,
    pair_tokenizer,
)
from tests.engine.damage import MORE_KEYS, ODD_VALUES

MAKERS: dict[str, Callable[[Path], Path]] = {
    "plain": make_classifier,
    "saved": make_cross_encoder,
    "causal": make_causal_reranker,
}


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(Settings(dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp("models") / name) for name, make in MAKERS.items()}


@pytest.fixture(params=sorted(MAKERS))
def folder(request: pytest.FixtureRequest, pristine: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine[request.param], tmp_path / request.param))


@pytest.fixture
def saved(pristine: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine["saved"], tmp_path / "copy"))


def test_what_is_read_at_once_is_bound_whatever_the_files_claim(loader: Loader, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "modernbert")
    edit_json(folder / "config.json", max_position_embeddings=2**27)
    edit_json(folder / "tokenizer_config.json", model_max_length=10**8)
    assert loader.load(str(folder)).trained_context == 131_072


def refused(loader: Loader, folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        loader.load(str(folder))
    assert str(folder) not in caught.value.message
    return caught.value.message


def outcome(loader: Loader, folder: Path) -> str:
    """ "loaded" or why not; any other exception fails the test."""
    try:
        loader.load(str(folder))
        return "loaded"
    except HuggingLlamaError as error:
        return error.message


def facts_of(folder: Path) -> ModelFacts:
    facts = FolderFacts().of(str(folder))
    assert facts is not None
    return facts


def test_engine_and_store_agree(loader: Loader, folder: Path) -> None:
    """On what the model is, and on what it takes: all of its weights, a head among them."""
    checkpoint = loader.load(str(folder))
    facts = facts_of(folder)
    assert checkpoint.kind is ModelKind.CLASSIFICATION
    assert Capability.RERANK in facts.capabilities
    assert (Capability.CLASSIFICATION in facts.capabilities) == (folder.name != "causal")
    size, runtime = loader.measure(str(folder))
    assert facts.size == size
    weights = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    assert estimate(size, runtime, 128).weights_bytes == weights


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_has_the_memory_of_its_weights(loader: Loader, tmp_path: Path, family: str) -> None:
    folder = make_classifier(tmp_path, family, num_labels=3)
    size, runtime = loader.measure(str(folder))
    found = estimate(size, runtime, 128)
    weights = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    assert (found.weights_bytes, found.kv_cache_bytes) == (weights, 0)
    assert facts_of(folder).capabilities == (Capability.CLASSIFICATION,)


@pytest.mark.parametrize("name", ["plain", "saved"])
def test_a_head_that_is_missing(loader: Loader, pristine: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Both libraries would go on with a random one."""
    folder = Path(shutil.copytree(pristine[name], tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "weights are missing" in refused(loader, folder)


def test_an_encoder_named_a_classifier(loader: Loader, tmp_path: Path) -> None:
    BertModel(BertConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path
    )
    pair_tokenizer().save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", architectures=["BertForSequenceClassification"])
    assert "weights are missing" in refused(loader, tmp_path)


def test_pickled_weights(loader: Loader, folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "no safetensors weights" in refused(loader, folder)


def test_encoder_decoder_models(loader: Loader, tmp_path: Path) -> None:
    config = BartConfig(
        vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    BartForSequenceClassification(config).save_pretrained(tmp_path)
    pair_tokenizer().save_pretrained(tmp_path)
    assert "encoder-decoder" in refused(loader, tmp_path)


@pytest.mark.parametrize("task", ["any-to-any", "retrieval", "nonsense", 5, ["text-generation"]])
def test_other_tasks(loader: Loader, saved: Path, task: Any) -> None:
    edit_json(saved / "sentence_bert_config.json", transformer_task=task)
    assert "is not supported" in refused(loader, saved)


@pytest.mark.parametrize(
    "settings",
    [
        {"modality_config": {"text": {"method": "generate", "method_output_name": "logits"}}},
        {"modality_config": {"text": "forward"}},
        {"modality_config": None},
        {"tokenizer_name_or_path": "/somewhere/else"},
        {"model_kwargs": {"device_map": "disk"}},
        {"model_args": {"quantization_config": {"quant_method": "any"}}},
    ],
)
def test_settings_that_lead_elsewhere(loader: Loader, saved: Path, settings: dict[str, Any]) -> None:
    edit_json(saved / "sentence_bert_config.json", **settings)
    assert "is not supported" in refused(loader, saved)


def test_settings_under_an_older_name_are_not_read(loader: Loader, saved: Path) -> None:
    """The library takes them where the first file is empty."""
    shutil.move(saved / "sentence_bert_config.json", saved / "sentence_roberta_config.json")
    (saved / "sentence_bert_config.json").write_text("{}")
    assert "is not supported" in refused(loader, saved)


@pytest.mark.parametrize("kind", ["SparseEncoder", "MultiVectorEncoder", "nonsense", 5])
def test_other_kinds_of_the_library(loader: Loader, saved: Path, kind: Any) -> None:
    edit_json(saved / "config_sentence_transformers.json", model_type=kind)
    assert "neither writes nor embeds nor classifies" in refused(loader, saved)


def test_an_architecture_that_only_its_own_code_knows(
    loader: Loader, pristine: dict[str, Path], tmp_path: Path
) -> None:
    """Its weights would fit the known class of its type, whose attention is another one."""
    folder = Path(shutil.copytree(pristine["plain"], tmp_path / "copy"))
    edit_json(folder / "config.json", architectures=["BertBidirectionalForSequenceClassification"])
    assert "needs code of its own" in refused(loader, folder)


def _edit_modules(folder: Path, **values: Any) -> None:
    file = folder / "modules.json"
    modules = json.loads(file.read_text())
    modules[0] |= values
    file.write_text(json.dumps(modules))


def test_code_of_its_own_is_not_run(loader: Loader, saved: Path) -> None:
    mark = saved / "mark"
    (saved / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).write_text('run')\n")
    edit_json(saved / "config.json", auto_map={"AutoModelForSequenceClassification": "evil.Model"})
    loader.load(str(saved))
    _edit_modules(saved, type="evil.Transformer")
    assert "needs code of its own" in refused(loader, saved)
    assert not mark.exists()


def test_transformers_part_lies_in_the_models_own_folder(loader: Loader, saved: Path) -> None:
    """Where it lies elsewhere, another config.json than the one that was looked at would be read."""
    (saved / "0_Transformer").mkdir()
    for file in [*saved.glob("*.json"), saved / "model.safetensors"]:
        shutil.copy(file, saved / "0_Transformer")
    _edit_modules(saved, path="0_Transformer")
    assert "is not supported" in refused(loader, saved)


@pytest.mark.parametrize("name", ["plain", "saved"])
def test_a_head_larger_than_the_weights_is_not_built(
    loader: Loader, pristine: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(pristine[name], tmp_path / "copy"))
    edit_json(folder / "config.json", id2label={str(n): f"L{n}" for n in range(150_000)}, label2id={})
    assert "does not fit its weights" in refused(loader, folder)


@pytest.mark.parametrize("name", ["plain", "saved"])
def test_a_label_that_would_fill_answers(loader: Loader, pristine: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(pristine[name], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    names = dict.fromkeys(config["id2label"], "L" * 1000)
    edit_json(folder / "config.json", id2label=names, label2id={})
    assert outcome(loader, folder) == "loaded"
    edit_json(folder / "config.json", id2label=names | {"0": "L" * 1_001})
    assert "a label of 1001 characters; 1000 are the most" in refused(loader, folder)


def test_damaged_configurations(loader: Loader, folder: Path, tmp_path: Path) -> None:
    """Each is loaded or refused with a sentence."""
    dice = random.Random(1)
    outcomes = set()
    names = ["config.json", *(p.name for p in folder.glob("*sentence*.json"))]
    for number in range(40):
        copy = Path(shutil.copytree(folder, tmp_path / f"{number}"))
        file = copy / dice.choice(names)
        keys = [*json.loads(file.read_text()), "id2label", "num_labels", "problem_type", *MORE_KEYS]
        edit_json(file, **{dice.choice(keys): dice.choice(ODD_VALUES)})
        message = outcome(loader, copy)
        assert str(copy) not in message
        outcomes.add(message)
        shutil.rmtree(copy)
    assert len(outcomes) > 2
    assert "loaded" in outcomes
