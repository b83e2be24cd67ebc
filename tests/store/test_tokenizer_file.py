"""What tokenizer.json files say, in GGUF's words."""

import json
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.neutral.description import Tokenizer, TokenType
from hugging_llama.store.snapshot import read_snapshot
from hugging_llama.store.tokenizer_file import read_tokenizer
from tests.hub_cache import minilm_files
from tests.store.models import CONFIG, safetensors

BPE = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 3}, "merges": ["a b", ["ab", "a"]]},
    "added_tokens": [{"id": 4, "content": "<s>", "special": True}, {"id": 3, "content": "ab", "special": False}],
}
NORMAL, CONTROL, USER, UNUSED = TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED


def _read(tmp_path: Path, tokenizer: Any, config: Any = None, *, with_tokens: bool = True) -> Tokenizer | None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(safetensors({"w": ("F32", (2,))}))
    (tmp_path / "tokenizer.json").write_text(tokenizer if isinstance(tokenizer, str) else json.dumps(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return read_tokenizer(read_snapshot(str(tmp_path)), with_tokens=with_tokens)


def test_byte_pairs(tmp_path: Path) -> None:
    assert _read(tmp_path, BPE, {"add_bos_token": True}) == Tokenizer(
        model="gpt2",
        tokens=("a", "b", "[PAD2]", "ab", "<s>"),
        token_types=(NORMAL, NORMAL, UNUSED, USER, CONTROL),
        merges=("a b", "ab a"),
        adds_bos=True,
    )
    assert _read(tmp_path, BPE, with_tokens=False) == Tokenizer(model="gpt2")


def test_other_kinds(tmp_path: Path) -> None:
    bpe = _read(tmp_path, {"model": BPE["model"] | {"byte_fallback": True}})  # type: ignore[operator]
    assert bpe
    assert bpe.model == "llama"
    unigram = _read(tmp_path, {"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2]]}})
    assert unigram == Tokenizer(model="t5", tokens=("a", "b"), token_types=(NORMAL, NORMAL))
    bert = read_tokenizer(read_snapshot(str(minilm_files())), with_tokens=True)
    assert bert
    assert (bert.model, len(bert.tokens), bert.tokens[101], bert.token_types[101]) == ("bert", 30522, "[CLS]", CONTROL)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "[" * 100_000, '{"model": 5}', '{"model": {"type": "BPE"}}',
        '{"model": {"type": "Magic", "vocab": {}}}',
        '{"model": {"type": "BPE", "vocab": {"a": 1000000000000}}}',
        '{"model": {"type": "BPE", "vocab": {"a": -1}}}',
        '{"model": {"type": "BPE", "vocab": {"a": "b"}}}',
        '{"model": {"type": "BPE", "vocab": {}, "merges": 5}}',
        '{"model": {"type": "BPE", "vocab": {}}, "added_tokens": [{"id": 99999999999, "content": "x"}]}',
    ],
)  # fmt: skip
def test_files_that_say_nothing(tmp_path: Path, text: str) -> None:
    assert _read(tmp_path, text) is None
