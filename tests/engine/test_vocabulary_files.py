"""Tokens of strangers that are too long, in each file that may name some: told before a library reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.engine.vetting import vet
from tests.engine.checkpoints import edit_json
from tests.engine.vetted import refused

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer.json", {"added_tokens": [{"id": 300, "content": LONG}]}),
        ("added_tokens.json", {LONG: 300}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"300": {"content": LONG}}}),
        ("tokenizer_config.json", {"mask_token": LONG}),
        ("tokenizer_config.json", {"sound_token": {"__type": "AddedToken", "content": LONG}}),
        ("tokenizer_config.json", {"model_specific_special_tokens": {"sound_token": LONG}}),
        ("special_tokens_map.json", {"additional_special_tokens": ["<x>", {"content": LONG}]}),
    ],
)
def test_tokens_without_end(folder: Path, name: str, values: dict[str, Any]) -> None:
    before = (folder / name).read_text() if (folder / name).exists() else "{}"
    (folder / name).write_text(json.dumps(json.loads(before) | values))
    assert f"{name} has a token of 5000 characters" in refused(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"extra_ids": 10**12},
        {"offset": 20_000},
        {f"t{number}_token": f"<{number}>" for number in range(10_001)},
        {"model_specific_special_tokens": {f"t{number}": f"<{number}>" for number in range(10_001)}},
    ],
    ids=["extra_ids", "offset", "named", "specific"],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_special_tokens_are_compared_in_pairs(folder: Path, name: str, values: dict[str, Any]) -> None:
    before = (folder / name).read_text() if (folder / name).exists() else "{}"
    (folder / name).write_text(json.dumps(json.loads(before) | values))
    assert "special tokens; 10000 are the most" in refused(folder)


def test_tokens_of_several_files_that_are_too_much_together(folder: Path) -> None:
    halves = [[f"{number:04d}" * 1000 for number in range(start, start + 300)] for start in (0, 300)]
    (folder / "added_tokens.json").write_text(json.dumps({text: id for id, text in enumerate(halves[0], 300)}))
    edit_json(folder / "tokenizer_config.json", extra_special_tokens=halves[1])
    assert "tokenizer adds 24" in refused(folder)


def test_expressions_that_are_run_while_nothing_else_is(folder: Path) -> None:
    slow = {"type": "Replace", "pattern": {"Regex": "a*a*b|."}, "content": "x"}
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"decoder": slow}))
    assert "a regular expression in its decoder" in refused(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": slow}))
    vet(str(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"x" * 200: 300}))
    assert "a regular expression in its normalizer" in refused(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "tokenizer.model"])
def test_plain_lists_where_they_are_the_tokenizer(folder: Path, name: str) -> None:
    (folder / name).write_text(LONG * 10)
    vet(str(folder))
    (folder / "tokenizer.json").unlink()
    assert f"{name} has a line of more than" in refused(folder)


def test_a_plain_list_of_any_size(folder: Path) -> None:
    with (folder / "vocab.txt").open("wb") as file:
        file.truncate(32 * 2**20 + 1)
    assert refused(folder) == "the model's vocab.txt is too large"
