"""What is seen of streams while they are passed on."""

import itertools

import pytest
from prometheus_client import CollectorRegistry

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, TextDelta, Usage
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.testing import ScriptedStream
from hugging_llama.web.figures import Figures
from hugging_llama.web.observed import ObservedGeneration, ObservedTransfer


def test_a_transfer_that_its_caller_leaves_is_told_so() -> None:
    facts = RequestFacts()
    begun = itertools.repeat(TransferProgress(status="pulling"))
    transfer = ObservedTransfer(ScriptedStream(begun), Figures(CollectorRegistry(), None), facts, "pull")
    assert next(transfer).status == "pulling"
    assert not facts.has_left
    transfer.close()
    assert facts.has_left


def test_one_that_has_ended_was_not_left() -> None:
    facts = RequestFacts()
    done = iter([TransferProgress(status="success")])
    transfer = ObservedTransfer(ScriptedStream(done), Figures(CollectorRegistry(), None), facts, "push")
    assert next(transfer).status == "success"
    transfer.close()
    assert not facts.has_left


@pytest.mark.parametrize("tokens", [0, 1, 2, 33, 34, 100])
@pytest.mark.parametrize("is_left", [True, False])
def test_each_gap_between_tokens_is_counted_when_the_answer_has_ended(tokens: int, is_left: bool) -> None:
    registry = CollectorRegistry()
    events: list[GenerateEvent] = [TextDelta("x")] * tokens
    if not is_left:
        events.append(Finished(reason=FinishReason.STOP, usage=Usage(num_output_tokens=tokens)))
    answer = ObservedGeneration(
        ScriptedStream(events), Figures(registry, None), RequestFacts(endpoint="/e"), "m", shares_prompt=False
    )
    assert [next(answer) for _ in events] == events
    answer.close()

    def figure(name: str) -> float:
        return registry.get_sample_value(f"hugging_llama_{name}", {"endpoint": "/e", "model": "m"}) or 0

    assert figure("inter_token_seconds_count") == max(0, tokens - 1)
    assert figure("time_to_first_token_seconds_count") == min(1, tokens)
