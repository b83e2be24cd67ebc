"""Log-probabilities: of the raw logits, in order, for those who ask."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.openai.text_logprobs import TextLogprobs
from hugging_llama.engine.output import AnswerProcessor
from hugging_llama.engine.sampling import sample
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.token_bytes import TokenBytes
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, TextDelta, ThinkingDelta, TokenLogprob
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama.parsing.thinking_tags import ThinkingTags
from tests.engine.harness import make_sequence
from tests.engine.test_output import THINK, ids_of, tokenizer_named

VOCAB = 300
TAGS = ThinkingTags("<t>", "</t>", "<a>", "</a>")


def logits_for(rows: int) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(1)) * 3


def asking(count: int | None, **options: Any) -> Sequence:
    params = SamplingParams(top_logprobs=count, **{"seed": 1} | options)
    return make_sequence(1, [1], params, token_bytes=lambda token_id: f"<{token_id}>".encode())


def entries(events: list[GenerateEvent]) -> list[TokenLogprob]:
    return [entry for event in events if isinstance(event, TextDelta | ThinkingDelta) for entry in event.logprobs]


def test_they_are_those_of_the_raw_logits() -> None:
    logits = logits_for(3)
    others = [asking(None), asking(0)]
    sequence = asking(4, temperature=0.3, top_k=2, repetition_penalty=2.0, logit_bias=())
    results = sample(logits.bfloat16(), [*others, sequence])
    reference = torch.log_softmax(logits.bfloat16().float(), dim=-1)
    (entry,) = entries(sequence.append_token(int(str(results[2])), 0))
    assert entry.token == f"<{results[2]}>".encode()
    assert entry.logprob == pytest.approx(float(reference[2, int(str(results[2]))]), abs=1e-4)
    best = reference[2].topk(4)
    assert [other.token.decode() for other in entry.top] == [f"<{i}>" for i in best.indices.tolist()]
    assert [other.logprob for other in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    (alone,) = entries(others[1].append_token(int(str(results[1])), 0))
    assert alone.top == ()
    assert entries(others[0].append_token(int(str(results[0])), 0)) == []


def test_they_are_always_numbers() -> None:
    logits = torch.full((1, VOCAB), -math.inf)
    logits[0, 5] = 3.0
    sequence = asking(3)
    (entry,) = entries(sequence.append_token(int(str(sample(logits, [sequence])[0])), 0))
    assert [entry.logprob, *(other.logprob for other in entry.top)] == [0.0, 0.0, -9999.0, -9999.0]
    json.dumps([other.logprob for other in entry.top], allow_nan=False)


@pytest.mark.parametrize(
    "options", [{}, {"stops": ["never there"]}, {"thinking": THINK, "inside_thinking": True}, {"stops": ["or b"]}]
)
def test_every_token_has_its_entry_at_once_and_in_order(options: dict[str, Any]) -> None:
    tokenizer = tokenizer_named("demo")
    ids = ids_of(tokenizer, "to be </think> or be ü")
    sequence = asking(0, temperature=0.0)
    sequence.output = AnswerProcessor(tokenizer, **options)
    sequence.token_bytes = TokenBytes(tokenizer)
    seen: list[TokenLogprob] = []
    for token_id in ids:
        logits = torch.zeros(1, len(tokenizer))
        logits[0, token_id] = 9.0
        sample(logits, [sequence])
        found = entries(sequence.append_token(token_id, 0))
        assert len(found) == 1
        seen += found
        if sequence.finish_reason is FinishReason.STOP:
            break
    assert b"".join(entry.token for entry in seen).decode() == tokenizer.decode(ids[: len(seen)])


CHANNELS = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>ü to be"


@pytest.mark.parametrize("name", ["demo", "byte"])
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ü to be", {"thinking": THINK}),
        ("<think>\nhm\n</think>\n\nü to be", {"thinking": THINK}),
        ("hm</think>\n\nü to be", {"thinking": THINK, "inside_thinking": True}),
        ("hm</think>ü to be", {"thinking": THINK, "inside_thinking": True, "show_thinking": False}),
        ("ü to be", {"thinking": TAGS}),
        ("<t>hm</t> <a> ü to be</a>", {"thinking": TAGS}),
        ("ü to be", {"has_channels": True}),
        (CHANNELS, {"has_channels": True}),
        (CHANNELS[CHANNELS.index("<|channel|>final") :], {"has_channels": True}),
    ],
)
def test_those_of_the_text_are_told_from_others(name: str, text: str, options: dict[str, Any]) -> None:
    """As OpenAI's dialect reads them."""
    tokenizer = tokenizer_named(name)
    sequence = asking(0, temperature=0.0)
    sequence.output = AnswerProcessor(tokenizer, **options)
    sequence.token_bytes = TokenBytes(tokenizer)
    reader, found, said = TextLogprobs(), b"", ""
    for token_id in ids_of(tokenizer, text):
        logits = torch.zeros(1, len(tokenizer))
        logits[0, token_id] = 9.0
        sample(logits, [sequence])
        for event in sequence.append_token(token_id, 0):
            found += b"".join(entry.token for entry in reader.of(event))
            said += event.text if isinstance(event, TextDelta) else ""
    for event in sequence.output.finish():
        found += b"".join(entry.token for entry in reader.of(event))
        said += event.text if isinstance(event, TextDelta) else ""
    assert said == "ü to be"
    # a token may stand across the boundary
    assert found.decode().lstrip(">").strip() == said


def test_the_end_of_the_answer_has_none() -> None:
    sequence = asking(0)
    sequence.eos_token_ids = frozenset(range(VOCAB))
    token = sample(logits_for(1), [sequence])[0]
    assert sequence.append_token(int(str(token)), 0) == []
    assert isinstance(sequence.finished_event(FinishReason.STOP), Finished)


@pytest.mark.parametrize("name", ["demo", "byte", "piece"])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\ufffd"), max_size=20))
def test_the_bytes_of_tokens_join_to_the_text(name: str, text: str) -> None:
    tokenizer = tokenizer_named(name)
    ids = ids_of(tokenizer, text)
    joined = b"".join(map(TokenBytes(tokenizer), ids)).decode()
    assert joined.removeprefix(" " if name == "piece" else "") == tokenizer.decode(ids)


def test_special_and_unknown_tokens_have_bytes_too() -> None:
    tokenizer = tokenizer_named("demo")
    token_bytes = TokenBytes(tokenizer)
    assert token_bytes(tokenizer.convert_tokens_to_ids("<|im_end|>")) == b"<|im_end|>"
    assert token_bytes(len(tokenizer) + 5) == b""
