"""Files of strangers that are too large, or hold too much: told before a library reads them."""

from pathlib import Path

import pytest

from hugging_llama.engine.vetting import vet
from tests.engine.vetted import refused

LISTS = b'{"zz":[' + b"[]," * 1_500_000 + b"[]]}"


def sparse(path: Path, num_bytes: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.truncate(num_bytes)


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "tokenizer.4.json",
     "vocab.json", "preprocessor_config.json", "chat_template.json", "model.safetensors.index.json", "modules.json",
     "any.json"],
)  # fmt: skip
def test_json_of_very_many_lists(folder: Path, name: str) -> None:
    (folder / name).write_bytes(LISTS)
    assert f"the model's {name} holds too much: it may have " in refused(folder)


def test_json_of_a_module(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "anything.json").write_bytes(LISTS)
    assert "the model's anything.json holds too much" in refused(folder)


@pytest.mark.parametrize(
    "path",
    ["chat_template.jinja", "additional_chat_templates/x.jinja", "generation_config.json", "processor_config.json",
     "tokenizer.json", "vocab.txt", "README.md"],
)  # fmt: skip
def test_files_without_end(folder: Path, path: str) -> None:
    sparse(folder / path, 3 * 2**30)
    assert refused(folder) == f"the model's {Path(path).name} is too large"


def test_templates_of_a_module(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer", "path": "0_T"}]')
    (folder / "0_T").mkdir()
    (folder / "0_T" / "additional_chat_templates").mkdir()
    sparse(folder / "0_T" / "additional_chat_templates" / "x.jinja", 3 * 2**30)
    assert refused(folder) == "the model's x.jinja is too large"


def test_many_templates_are_no_way_around(folder: Path) -> None:
    for number in range(5):
        sparse(folder / "additional_chat_templates" / f"{number}.jinja", 2**20)
    assert refused(folder) == "the model's 4.jinja is too large"


def test_what_no_library_reads_may_be_large(folder: Path) -> None:
    sparse(folder / "pytorch_model.bin", 3 * 2**30)
    (folder / "trainer_state.json").write_bytes(LISTS)
    vet(str(folder))
