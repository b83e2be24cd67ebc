"""What is added to logits before anything else: logit bias, bad words, suppressed tokens, and no end too early."""

from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.requests import SamplingParams

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens around it."""

# every length is looked at in every step, in which other sequences wait
_LONGEST_RUN = 256


class LogitBias:
    """The biases of one sequence. `added_ids` `[n]` and `added` `[n]` always hold; `-inf` in `added` forbids a token,
    one of `never_ids`. `early`: ids that must not come as one of the first `num_early` tokens, by `num_early`. `runs`:
    the last ids of forbidden runs by the ids before them.
    """

    def __init__(
        self,
        added: dict[int, float],
        early: dict[int, frozenset[int]],
        runs: dict[tuple[int, ...], frozenset[int]],
    ) -> None:
        self.added_ids: NDArray[np.int64] = np.array(list(added), dtype=np.int64)
        self.added: NDArray[np.float32] = np.array(list(added.values()), dtype=np.float32)
        self.never_ids = frozenset(token_id for token_id, bias in added.items() if bias == -np.inf)
        self._early = early
        self._runs = runs
        self._lengths = sorted({len(before) for before in runs})

    @property
    def forbids(self) -> bool:
        """Whether there are tokens that must not come, however long the answer is."""
        return bool(self.never_ids or self._runs)

    @property
    def longest_run(self) -> int:
        """So many of the last tokens decide what `banned` says."""
        return self._lengths[-1] if self._lengths else 0

    def banned(self, num_output_tokens: int, last_ids: list[int]) -> Iterator[int]:
        """Ids that must not come next, after `num_output_tokens` of output that end, with the prompt, in `last_ids`."""
        for num_early, ids in self._early.items():
            if num_output_tokens < num_early:
                yield from ids
        for length in self._lengths:
            if length <= len(last_ids):
                yield from self._runs.get(tuple(last_ids[len(last_ids) - length :]), ())


def make_logit_bias(
    params: SamplingParams, encode: Encode, *, vocab_size: int, eos_token_ids: Collection[int]
) -> LogitBias | None:
    """None if these params ask for none. Raises InvalidRequestError for a bias on what is not one known token, and
    for bad words of too many tokens.

    Ids outside of the vocabulary never come, so forbidding them is no error.
    """
    added: dict[int, float] = {}
    for token, bias in params.logit_bias:
        token_id = _one_token(token, encode, vocab_size)
        added[token_id] = added.get(token_id, 0.0) + bias
    runs: dict[tuple[int, ...], set[int]] = {}
    for run in _bad_runs(params, encode):
        if len(run) > _LONGEST_RUN:
            raise InvalidRequestError(
                f"bad_words: {len(run)} tokens in a row, at most {_LONGEST_RUN} can be forbidden", param="bad_words"
            )
        if any(not 0 <= token_id < vocab_size for token_id in run):
            continue
        if len(run) == 1:
            added[run[0]] = -np.inf
        elif run:
            runs.setdefault(run[:-1], set()).add(run[-1])
    early: dict[int, frozenset[int]] = {}
    if params.begin_suppress_tokens:
        early[1] = frozenset(i for i in params.begin_suppress_tokens if 0 <= i < vocab_size)
    if params.min_tokens > 0 and eos_token_ids:
        ends = frozenset(i for i in eos_token_ids if i < vocab_size)
        early[params.min_tokens] = ends | early.get(params.min_tokens, frozenset())
    if not added and not runs and not early:
        return None
    return LogitBias(added, early, {before: frozenset(last) for before, last in runs.items()})


def _one_token(token: int | str, encode: Encode, vocab_size: int) -> int:
    ids = [token] if isinstance(token, int) else encode(token)
    if len(ids) != 1:
        raise InvalidRequestError(f"logit_bias: {token!r} is {len(ids)} tokens of this model", param="logit_bias")
    if not 0 <= ids[0] < vocab_size:
        raise InvalidRequestError(f"logit_bias: this model has no token {token!r}", param="logit_bias")
    return ids[0]


def _bad_runs(params: SamplingParams, encode: Encode) -> Iterable[tuple[int, ...]]:
    for token_id in params.suppress_tokens:
        yield (token_id,)
    for word in params.bad_words:
        if isinstance(word, tuple):
            yield word
        else:
            # inside of a text a word comes after a space, which tokenizers write as part of it
            for text in {word, " " + word.lstrip()}:
                yield tuple(encode(text))
