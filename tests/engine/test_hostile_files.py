"""Model files made to do harm: each is loaded, converted or refused with a sentence, and costs little memory."""

import functools
import json
import logging
import os
import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.engine.conversion import convert
from hugging_llama.engine.loader import Loader
from hugging_llama.errors import HuggingLlamaError, ModelLoadError
from hugging_llama.neutral.conversion import ConversionRequest
from hugging_llama.store import conversion_plan, safetensors_header
from hugging_llama.store.gguf_header import read_header
from hugging_llama_config.settings import Settings
from tests.engine import tiny_models
from tests.engine.checkpoints import edit_json, make_checkpoint, piece_tokenizer
from tests.engine.damage import MORE_KEYS, ODD_VALUES, change, mutate, swap_numbers
from tests.gguf_files import make_small, write_gguf
from tests.hub_cache import minilm_files

MAX_GROWTH_BYTES = 256 * 2**20


@pytest.fixture(autouse=True)
def _little_memory(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The most that the process ever held must not grow by much."""
    caplog.set_level(logging.CRITICAL, "hugging_llama")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_GROWTH_BYTES


@pytest.fixture(scope="module")
def loader() -> Loader:
    loader = Loader(Settings(dtype="float32", device="cpu"))
    return loader


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Tiny models of several families, with one tokenizer."""
    root = tmp_path_factory.mktemp("models")
    llama = make_checkpoint(root / "llama")
    found = [llama]
    for name in ("qwen3_moe", "gemma2", "gpt2", "phi3"):
        folder = Path(shutil.copytree(llama, root / name))
        model: Any = tiny_models.make_model(name)
        model.save_pretrained(folder)
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gguf")
    return write_gguf(root / "model.gguf", "Q8_0", make_small(root / "source"))


def outcome(loader: Loader, folder: Path) -> str:
    """ "loaded" or why not; any other exception fails the test."""
    try:
        loader.load(str(folder))
        message = "loaded"
    except HuggingLlamaError as error:
        message = error.message
    assert str(folder.parent) not in message
    return message


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_configurations(loader: Loader, models: list[Path], tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    outcomes = set()
    for number in range(200):
        folder = Path(shutil.copytree(dice.choice(models), tmp_path / f"{number}"))
        file = folder / ("generation_config.json" if number % 10 == 0 else "config.json")
        keys = [*json.loads(file.read_text()), *MORE_KEYS]
        edit_json(file, **{dice.choice(keys): dice.choice(ODD_VALUES) for _ in range(dice.choice([1, 1, 2]))})
        outcomes.add(outcome(loader, folder))
        shutil.rmtree(folder)
    assert len(outcomes) > 5


@pytest.mark.parametrize(("seed", "count"), [(1, 50), pytest.param(2, 500, marks=pytest.mark.slow)])
def test_weights(loader: Loader, models: list[Path], tmp_path: Path, seed: int, count: int) -> None:
    folder = Path(shutil.copytree(models[0], tmp_path / "model"))
    whole = (folder / "model.safetensors").read_bytes()
    header_bytes = 8 + int.from_bytes(whole[:8], "little")
    dice = random.Random(seed)
    outcomes = set()
    for _ in range(count):
        content = bytearray(whole)
        mutate(content, dice, header_bytes)
        (folder / "model.safetensors").write_bytes(content)
        found = outcome(loader, folder)
        outcomes.add(found)
        try:
            safetensors_header.read_tensors(str(folder / "model.safetensors"))
        except safetensors_header.BadSafetensorsError:
            assert found != "loaded"
    assert "the model's weights are damaged; pull it again" in outcomes


@pytest.mark.parametrize(("seed", "count"), [(1, 60), pytest.param(2, 1500, marks=pytest.mark.slow)])
def test_tokenizers(loader: Loader, tmp_path: Path, seed: int, count: int) -> None:
    folder = make_checkpoint(tmp_path / "model", piece_tokenizer())
    dice = random.Random(seed)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (folder / name).read_text()
        for _ in range(count // 2):
            value = json.loads(whole)
            change(value, dice)
            (folder / name).write_text(json.dumps(value))
            outcome(loader, folder)
        (folder / name).write_text(whole)
    assert outcome(loader, folder) == "loaded"


@pytest.mark.parametrize(
    "path",
    ["generation_config.json", "chat_template.jinja", "special_tokens_map.json", "preprocessor_config.json",
     "adapter_config.json", "config.json", "modules.json", "merges.txt", "additional_chat_templates/x.jinja"],
)  # fmt: skip
def test_files_that_are_no_regular_ones(loader: Loader, models: list[Path], tmp_path: Path, path: str) -> None:
    folder = Path(shutil.copytree(models[0], tmp_path / "model"))
    (folder / path).parent.mkdir(exist_ok=True)
    for make in (os.mkfifo, functools.partial(os.symlink, "/dev/zero")):
        (folder / path).unlink(missing_ok=True)
        make(folder / path)
        with pytest.raises(ModelLoadError):
            loader.load(str(folder))


def test_a_tokenizer_that_panics(loader: Loader, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", piece_tokenizer())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] = "no such token"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "do not fit together" in outcome(loader, folder)


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_a_tokenizer_that_writes_without_end(loader: Loader, tmp_path: Path, part: str) -> None:
    folder = make_checkpoint(tmp_path / "model", piece_tokenizer())
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    rules = {"type": "Sequence", "decoders" if part == "decoder" else "normalizers": [rule, rule]}
    edit_json(folder / "tokenizer.json", **{part: rules})
    assert "tokenizer.json may make" in outcome(loader, folder)


@pytest.mark.parametrize(("seed", "count"), [(1, 100), pytest.param(2, 2000, marks=pytest.mark.slow)])
def test_gguf_files(gguf_file: Path, tmp_path: Path, seed: int, count: int) -> None:
    whole = gguf_file.read_bytes()
    header_bytes = min(tensor.offset for tensor in read_header(str(gguf_file)).tensors)
    dice = random.Random(seed)
    outcomes: dict[str, int] = {}
    for number in range(count):
        content = bytearray(whole)
        mutate(content, dice, header_bytes)
        if number % 2:  # what is said of the model, without damage to the layout
            content = bytearray(whole)
            swap_numbers(content, dice, header_bytes)
        found = converted(content, tmp_path)
        outcomes[found] = outcomes.get(found, 0) + 1
    assert outcomes.get("converted", 0) > 0
    assert len(outcomes) > 5


def converted(content: bytes | bytearray, folder: Path) -> str:
    """ "converted", or why not; any other exception fails the test."""
    source, target = folder / "source", folder / "target"
    source.mkdir(exist_ok=True)
    target.mkdir()
    file = source / "model.gguf"
    file.write_bytes(content)
    try:
        plan = conversion_plan.make_plan({"x.gguf": "0" * 64}, lambda digest: str(file), allow_pickle=False)
        sizes = {"weight_bytes": plan.weight_bytes, "largest_bytes": plan.largest_bytes}
        convert(ConversionRequest(source=str(source), target=str(target), gguf=plan.gguf, **sizes))
        message = "converted"
    except HuggingLlamaError as error:
        message = error.message
    shutil.rmtree(target)
    assert str(folder) not in message
    return message


def test_the_models_themselves_are_fine(loader: Loader, models: list[Path], gguf_file: Path, tmp_path: Path) -> None:
    assert {outcome(loader, folder) for folder in models} == {"loaded"}
    assert converted(gguf_file.read_bytes(), tmp_path) == "converted"


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Dense", {"in_features": 384, "out_features": 10**8, "bias": True}),
        ("Dense", {"in_features": 0, "out_features": 10**9, "bias": True}),
        ("LayerNorm", {"dimension": 10**9}),
    ],
)
def test_a_layer_that_its_weights_do_not_fill_is_not_made(
    loader: Loader, tmp_path: Path, kind: str, config: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(minilm_files(), tmp_path / "model"))
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9_Layer", "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "9_Layer").mkdir()
    (folder / "9_Layer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="9_Layer does not fit its weights"):
        loader.load(str(folder))


@pytest.mark.parametrize(
    ("kind", "number", "problem"),
    [
        ("Normalize", 14, "the model's modules.json names 17 modules; 16 are the most"),
        ("Transformer", 1, "several transformers"),
    ],
)
def test_modules_without_end_are_not_loaded(
    loader: Loader, tmp_path: Path, kind: str, number: int, problem: str
) -> None:
    """Each transformer would load all weights once more."""
    folder = Path(shutil.copytree(minilm_files(), tmp_path / "model"))
    modules = json.loads((folder / "modules.json").read_text())
    more = {"idx": 9, "name": "9", "path": "", "type": f"sentence_transformers.models.{kind}"}
    (folder / "modules.json").write_text(json.dumps(modules + [more] * number))
    with pytest.raises(ModelLoadError, match=problem):
        loader.load(str(folder))


def test_a_model_of_texts_makes_no_tables_for_sounds(loader: Loader, tmp_path: Path) -> None:
    """sentence-transformers makes the processor that a model names."""
    folder = Path(shutil.copytree(minilm_files(), tmp_path / "model"))
    edit_json(folder / "tokenizer_config.json", processor_class="WhisperProcessor")
    sizes = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 250}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes | {"n_fft": 10_000_000}))
    with pytest.raises(ModelLoadError, match=r"preprocessor_config.json has an impossible n_fft"):
        loader.load(str(folder))


def test_a_modules_folder_names_no_other_tokenizer(loader: Loader, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(minilm_files(), tmp_path / "model"))
    settings = {"fast_tokenizer_files": ["xtokenizer.1.0.0.json"]}
    (folder / "1_Pooling" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelLoadError, match=r"names tokenizers that are not in a tokenizer\*.json"):
        loader.load(str(folder))


def test_an_input_has_a_length(loader: Loader, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(minilm_files(), tmp_path / "model"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": -5}))
    with pytest.raises(ModelLoadError, match=r"sentence_bert_config.json has a max_seq_length of -5"):
        loader.load(str(folder))
