"""How large the small files of a model may be, and how much JSON in them may hold: giants pass, bombs do not."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.store.snapshot import Snapshot, SnapshotFile, read_object
from hugging_llama_config import json_values
from hugging_llama_config.json_values import count_outside
from hugging_llama_config.model_limits import MOST_TENSORS
from hugging_llama_config.small_files import (
    MOST_PARTS,
    TooManyValuesError,
    is_json,
    parse_json,
    size_problem,
    values_problem,
)

TOKEN = '{"id": 1, "content": "<a>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, '
TOKEN += '"special": true}'


def listed(item: str, times: int) -> str:
    return "[" + ",".join([item] * times) + "]"


def named(item: str, times: int) -> str:
    """Names that hold what counts elsewhere."""
    return "{" + ",".join([f'",,[{{:\\"": {item}'] * times) + "}"


def test_giants_pass() -> None:
    merges = listed('["[a", ",b"]', 1_000_000)
    model = f'{{"vocab": {named("1", 1_000_000)}, "merges": {merges}}}'
    texts = {
        "tokenizer.json": f'{{"added_tokens": {listed(TOKEN, 65_536)}, "model": {model}}}',
        "tokenizer.4.0.json": f'{{"model": {{"vocab": {listed("[1, 2.5]", 1_000_000)}}}}}',
        "vocab.json": named("1", 2**20),
        "added_tokens.json": named("1", 65_536),
        "tokenizer_config.json": f'{{"added_tokens_decoder": {named(TOKEN, 65_536)}}}',
        "special_tokens_map.json": listed(TOKEN, 65_536),
        "config.json": f'{{"id2label": {named("1", 50_000)}, "label2id": {named("1", 50_000)}}}',
        "model.safetensors.index.json": f'{{"metadata": {{}}, "weight_map": {named("1", MOST_TENSORS)}}}',
    }
    assert {name: values_problem(name, text.encode()) for name, text in texts.items()} == dict.fromkeys(texts, "")


@pytest.mark.parametrize(
    ("name", "num_values"),
    [
        ("config.json", 200_000), ("generation_config.json", 200_000), ("sentence_bert_config.json", 200_000),
        ("config_sentence_transformers.json", 200_000), ("modules.json", 200_000), ("anything.json", 1_000_000),
        ("special_tokens_map.json", 1_000_000), ("added_tokens.json", 1_000_000),
        ("tokenizer_config.json", 1_000_000), ("model.safetensors.index.json", MOST_TENSORS + 100_000),
        ("vocab.json", 1_148_576), ("tokenizer.json", 6_000_000),
    ],
)  # fmt: skip
def test_bombs(name: str, num_values: int) -> None:
    say = f"holds too much: it may have {num_values:,} values, and {min(num_values, MOST_PARTS):,} lists and objects"
    for text in (b"[" + b"0," * num_values + b"0]", b"[" + b"[]," * (min(num_values, MOST_PARTS) + 1) + b"[]]"):
        assert values_problem(name, text) == say
        with pytest.raises(TooManyValuesError, match=re.escape(say)):
            parse_json(name, text)
    assert values_problem(name, b'{"":' * (MOST_PARTS + 1)) == say


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "text", ["[" * 101 + "]" * 101, '{"[": [' * 51 + "]}" * 51, "[1, " * 101 + "[]" + "]" * 101, "[" * 900]
)
def test_depth(name: str, text: str) -> None:
    assert values_problem(name, text.encode()) == "is nested too deeply"
    with pytest.raises(TooManyValuesError, match="is nested too deeply"):
        parse_json(name, text.encode())


@pytest.mark.parametrize(
    "text", ["[" * 100 + "]" * 100, '[{"[": "]"}, ' * 50 + "1" + "]" * 50, listed(r'{"\"": "[{["}', 900)]
)
def test_depth_of_what_passes(text: str) -> None:
    assert json.loads(text) == parse_json("config.json", text.encode())


def test_a_name_that_tells_nothing() -> None:
    with pytest.raises(TooManyValuesError):
        parse_json("0" * 64, b"[" + b"0," * 200_000 + b"0]")


def test_what_can_not_be_counted_is_not_read() -> None:
    """In UTF-16, a character may look like the end of a string."""
    assert parse_json("config.json", b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="utf-8"):
        parse_json("config.json", '{"a": "\u2261"}'.encode("utf-16"))


@given(
    st.lists(st.text('a",:[]{}\\', max_size=4) | st.lists(st.text('a",:[]{}\\', max_size=4), max_size=3), max_size=9),
    st.integers(1, 9),
)
def test_where_a_text_is_cut_does_not_matter(value: list[object], size: int) -> None:
    text = json.dumps(value).encode()
    whole = count_outside(text, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_CHUNK_BYTES", size)
        assert count_outside(text, 100) == whole
    assert whole is not None
    assert whole.parts == 1 + sum(isinstance(item, list) for item in value)


def test_sizes() -> None:
    for name, most in {
        "chat_template.jinja": 4 * 2**20,
        "config.json": 64 * 2**20,
        "tokenizer.json": 128 * 2**20,
        "vocab.txt": 32 * 2**20,
        "README.md": 32 * 2**20,
    }.items():
        assert (size_problem(name, most), size_problem(name, most + 1)) == ("", "is too large")
    assert size_problem("model.safetensors", 2**40) == size_problem("trainer_state.json", 2**40) == ""


def test_results_of_a_training_are_read_by_nobody() -> None:
    names = ("trainer_state.json", "eval_results.json", "unigram.json", "config.json", "results.json")
    assert [is_json(name) for name in names] == [False, False, False, True, True]


def test_a_file_is_bound_by_its_name_in_the_model(tmp_path: Path) -> None:
    """Also where it lies among the blobs, as those of a pull do."""
    place = tmp_path / ("0" * 64)
    place.write_bytes(f'{{"added_tokens_decoder": {named(TOKEN, 65_536)}}}'.encode())
    file = SnapshotFile("0_T/tokenizer_config.json", place.stat().st_size, place.name, str(place))
    assert Snapshot("", {file.path: file}, (), ()).json(file.path).keys() == {"added_tokens_decoder"}
    assert read_object(str(place)) == {}, "as a configuration it holds too much"
