"""Expressions in a tokenizer's rules: those of real models pass, those that could hold up all others do not."""

from typing import Any

import pytest

from hugging_llama_config.tokenizer_expressions import expression_problem

PLAIN = [" {2,}", r"\s+", r"\s{2,}|[\n\r\t]", r"\p{Cc}", r"[^\x20-\x7e]", "``|''", r"a\*+b", r"^\s+|\s+$"]
OTHERS = ["a*a*b|.", "(a+)+b", r"\d+\s+\d+", r"(a)\1", "(?=a)", "a" * 201, "[", "a|" * 99 + "("]


def replace(pattern: dict[str, str]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": pattern, "content": "x"}]}


@pytest.mark.parametrize("pattern", PLAIN)
def test_plain_ones(pattern: str) -> None:
    rule = replace({"Regex": pattern})
    assert expression_problem({"normalizer": rule}, ["<extra_id_0>" * 4] * 1000) == ""
    assert "in its normalizer" in expression_problem({"normalizer": rule}, ["x" * 4096] * 512)


@pytest.mark.parametrize("pattern", OTHERS)
def test_others(pattern: str) -> None:
    rule = replace({"Regex": pattern})
    assert expression_problem({"normalizer": rule}, ["<s>", "</s>"]) == ""
    assert "in its normalizer" in expression_problem({"normalizer": rule}, ["x" * 129])


def test_texts_are_none() -> None:
    rule = replace({"String": "a*a*b"})
    assert expression_problem({"normalizer": rule, "decoder": rule}, ["x" * 4096] * 512) == ""
    assert expression_problem({"normalizer": {"pattern": "a*a*b"}}, ["x" * 4096]) == ""


def test_a_decoder_has_none() -> None:
    assert "in its decoder" in expression_problem({"decoder": replace({"Regex": "a"})}, [])


def test_all_together_have_a_length() -> None:
    parts = {"pre_tokenizer": [replace({"Regex": "a" * 10_000}), replace({"Regex": "b" * 6_384})]}
    assert expression_problem(parts, []) == ""
    parts["pre_tokenizer"].append(replace({"Regex": "c"}))
    assert "16385 characters" in expression_problem(parts, [])
