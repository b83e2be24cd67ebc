"""What is seen of streams while they are passed on."""

import itertools
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.web.figures import Figures
from hugging_llama.web.observed import ObservedTransfer


class Transfer:
    """Tells `steps`."""

    def __init__(self, steps: Iterator[TransferProgress]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[TransferProgress]:
        return self

    def __next__(self) -> TransferProgress:
        return next(self._steps)

    def close(self) -> None:
        """There is nothing to free."""


def test_a_transfer_that_its_caller_leaves_is_told_so() -> None:
    facts = RequestFacts()
    begun = itertools.repeat(TransferProgress(status="pulling"))
    transfer = ObservedTransfer(Transfer(begun), Figures(CollectorRegistry(), None), facts, "pull")
    assert next(transfer).status == "pulling"
    assert not facts.has_left
    transfer.close()
    assert facts.has_left


def test_one_that_has_ended_was_not_left() -> None:
    facts = RequestFacts()
    done = iter([TransferProgress(status="success")])
    transfer = ObservedTransfer(Transfer(done), Figures(CollectorRegistry(), None), facts, "push")
    assert next(transfer).status == "success"
    transfer.close()
    assert not facts.has_left
