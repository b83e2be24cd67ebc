"""The bodies of the endpoints for reranking and classification: what is read, and in which words it is refused."""

from typing import Any

import pytest

from hugging_llama.dialects.documents import MAX_DOCUMENTS, parse_documents
from hugging_llama.dialects.ollama.rerank import RerankSchema as NativeSchema
from hugging_llama.dialects.ollama.rerank import parse_rerank
from hugging_llama.dialects.openai.classify import ClassifySchema
from hugging_llama.dialects.openai.fields import parse_truncation
from hugging_llama.dialects.openai.rerank import RerankSchema, parse_some_documents
from hugging_llama.errors import InvalidRequestError

BODY = {"model": "m", "query": "q", "documents": ["a"]}


def test_defaults() -> None:
    ranked = RerankSchema().parse(BODY)
    assert (ranked["top_n"], ranked["return_documents"]) == (0, False)
    assert (ranked["truncate"], ranked["truncate_prompt_tokens"]) == (True, -1)
    assert ClassifySchema().parse({"model": "m", "input": "a"})["truncate_prompt_tokens"] == -1
    assert NativeSchema().parse({"MODEL": "m", "documents": None}) == {
        "model": "m", "query": "", "documents": [], "top_n": 0, "truncate": True, "keep_alive": None, "options": {},
    }  # fmt: skip


def test_documents_are_texts_or_objects_with_one() -> None:
    assert parse_documents(["a", {"text": "b", "title": "t"}, ""]) == ["a", "b", ""]
    assert parse_documents([]) == []
    assert len(parse_documents(["a"] * MAX_DOCUMENTS)) == MAX_DOCUMENTS


@pytest.mark.parametrize(
    ("documents", "text"),
    [
        (None, "must be a list of texts"),
        ("a", "must be a list of texts"),
        ({"text": "a"}, "must be a list of texts"),
        (["a", 5], r"documents\[1\] must be a text"),
        ([["a"]], r"documents\[0\] must be a text"),
        ([{"title": "a"}], r"documents\[0\] must be a text"),
        ([{"text": None}], r"documents\[0\] must be a text"),
        (["a"] * (MAX_DOCUMENTS + 1), "at most 10000 items"),
    ],
)
def test_documents_that_are_none(documents: Any, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        parse_documents(documents)
    assert caught.value.facts == {"param": "documents"}
    with pytest.raises(InvalidRequestError, match="at least one"):
        parse_some_documents([])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"query": None}, "query"),
        ({"query": ["q"]}, "query"),
        ({"top_n": -1}, "top_n"),
        ({"top_n": "3"}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"top_n": 1.5}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
        ({"truncate": "END"}, "truncate"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ],
)
def test_wrong_fields_name_themselves(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RerankSchema().parse(BODY | change)
    assert caught.value.facts == {"param": param}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"query": 5}, "cannot unmarshal number into Go struct field RerankRequest.query of type string"),
        ({"top_n": "a"}, "cannot unmarshal string into Go struct field RerankRequest.top_n of type int"),
        ({"top_n": -1}, "top_n must not be negative"),
        ({"truncate": "yes"}, "RerankRequest.truncate of type bool"),
        ({"options": []}, "RerankRequest.options of type map"),
        ({"documents": "a"}, "documents must be a list of texts"),
    ],
)
def test_the_native_body_is_refused_in_the_words_of_go(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        parse_rerank(NativeSchema().parse(BODY | change))


def test_truncation() -> None:
    assert (parse_truncation(-1), parse_truncation(7)) == (None, 7)
    with pytest.raises(InvalidRequestError, match="no token would be left"):
        parse_truncation(0)
