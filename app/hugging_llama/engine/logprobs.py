"""Log-probabilities of sampled tokens, for the sequences that ask.

They are those of the model itself: the logarithm of the softmax of its raw logits, before bias, penalties, grammar and
temperature, as in Ollama and llama.cpp. Nothing is below -9999, so that all are numbers in JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hugging_llama.engine.candidates import top_candidates
from hugging_llama.neutral.events import GenerateEvent, TextDelta, ThinkingDelta, TokenLogprob

if TYPE_CHECKING:
    from hugging_llama.engine.sequence import Sequence

_LOWEST = -9999.0

TokenBytes = Callable[[int], bytes]
"""The bytes that a token stands for."""


@dataclass(frozen=True, slots=True)
class RawLogprob:
    """Of a sampled token, and of the best ones beside it by descending probability, as (id, log-probability)."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()

    def entry(self, token_bytes: TokenBytes) -> TokenLogprob:
        """The same with bytes for ids."""
        top = tuple(TokenLogprob(token_bytes(token_id), logprob) for token_id, logprob in self.top)
        return TokenLogprob(token_bytes(self.token_id), self.logprob, top)


def note_logprobs(logits: Tensor, sequences: list["Sequence"], token_ids: list[int | None]) -> None:
    """Leaves an entry for each sampled token with its sequence's sampling state, if the sequence asks for them.

    `logits` `[len(sequences), vocab_size]`, raw; a `token_ids` entry is None where sampling failed.
    """
    asking = [
        at
        for at, sequence in enumerate(sequences)
        if sequence.sampling.top_logprobs is not None and token_ids[at] is not None
    ]
    if not asking:
        return
    chosen = [token_ids[at] or 0 for at in asking]
    counts = [sequences[at].sampling.top_logprobs or 0 for at in asking]
    for at, found in zip(asking, raw_logprobs(logits[asking], chosen, counts), strict=True):
        sequences[at].sampling_state.logprob = found


def raw_logprobs(logits: Tensor, token_ids: list[int], counts: list[int]) -> list[RawLogprob]:
    """Of `token_ids` `[n]` by their rows of `logits` `[n, vocab_size]`, with `counts` `[n]` alternatives each."""
    rows = logits.float()
    sums = rows.logsumexp(dim=-1)
    chosen = torch.tensor(token_ids, device=rows.device)
    own = (rows.gather(1, chosen[:, None])[:, 0] - sums).tolist()
    best = top_candidates(rows, max(*counts, 1))
    found = []
    for row, total in enumerate(sums.tolist()):
        scores = best.scores[row, : counts[row]] - total
        top = tuple(zip(best.ids[row, : counts[row]].tolist(), map(_bounded, scores.tolist()), strict=True))
        found.append(RawLogprob(token_ids[row], _bounded(own[row]), top))
    return found


def _bounded(logprob: float) -> float:
    return min(max(logprob, _LOWEST), 0.0)


def with_logprob(events: list[GenerateEvent], entry: TokenLogprob, *, is_aside: bool) -> list[GenerateEvent]:
    """The events of one token with its entry: in its text, else in its reasoning, else in an event without text, which
    is one of reasoning if the token is known to be no part of the answer's text."""
    for kind in (TextDelta, ThinkingDelta):
        for at, event in enumerate(events):
            if isinstance(event, kind):
                return [*events[:at], kind(event.text, (entry,)), *events[at + 1 :]]
    return [(ThinkingDelta if is_aside else TextDelta)("", (entry,)), *events]
