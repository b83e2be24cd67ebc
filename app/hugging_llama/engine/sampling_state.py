"""What sampling remembers of one sequence, kept up to date token by token so that no step walks the whole text."""

import random
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hugging_llama.engine.logit_bias import LogitBias
from hugging_llama.engine.logprobs import RawLogprob
from hugging_llama.neutral.requests import SamplingParams

_SEED_RANGE = 2**63


class TokenCounts:
    """How often each token occurs in the last `window` tokens (-1: all), as two parallel arrays for the device."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[int] = deque()
        self._place: dict[int, int] = {}
        self._ids: NDArray[np.int64] = np.empty(64, dtype=np.int64)
        self._counts: NDArray[np.float32] = np.empty(64, dtype=np.float32)

    def add(self, token_id: int) -> None:
        """The window moves on by one token."""
        self._increase(token_id)
        if self._window < 0:
            return
        self._recent.append(token_id)
        if len(self._recent) > self._window:
            self._decrease(self._recent.popleft())

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The distinct token ids `[n]` of the window and how often each occurs `[n]`; views, valid until `add`."""
        n = len(self._place)
        return self._ids[:n], self._counts[:n]

    def _increase(self, token_id: int) -> None:
        place = self._place.get(token_id)
        if place is not None:
            self._counts[place] += 1
            return
        place = len(self._place)
        if place == len(self._ids):
            self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
            self._counts = np.concatenate((self._counts, np.empty_like(self._counts)))
        self._place[token_id] = place
        self._ids[place] = token_id
        self._counts[place] = 1

    def _decrease(self, token_id: int) -> None:
        place = self._place[token_id]
        if self._counts[place] > 1:
            self._counts[place] -= 1
            return
        # the last entry fills the gap, so the arrays stay dense
        last = len(self._place) - 1
        last_id = int(self._ids[last])
        self._ids[place], self._counts[place] = last_id, self._counts[last]
        self._place[last_id] = place
        del self._place[token_id]


class NgramIndex:
    """Which tokens have followed each run of n-1 tokens; what `no_repeat_ngram_size` n forbids next."""

    def __init__(self, size: int) -> None:
        self._tail: deque[int] = deque(maxlen=size)
        self._size = size
        self._followers: dict[tuple[int, ...], dict[int, None]] = {}

    def add(self, token_id: int) -> None:
        """One more token."""
        self._tail.append(token_id)
        if len(self._tail) == self._size:
            *head, last = self._tail
            self._followers.setdefault(tuple(head), {})[last] = None

    def banned(self) -> list[int]:
        """The tokens that would repeat an n-gram, each once."""
        if len(self._tail) < self._size - 1:
            return []
        return list(self._followers.get(tuple(self._tail)[len(self._tail) - self._size + 1 :], ()))


class SamplingState:
    """The random generator, the penalty window, the n-grams and the biases of one sequence.

    Each sequence draws from its own generator on the CPU, so what it samples does not depend on its batch mates
    or on the device; without a seed it gets a random one. `logprob` is that of the token sampled last, if the
    sequence asks for it.
    """

    __slots__ = (
        "_draw",
        "_last_ids",
        "_num_output_tokens",
        "_random",
        "_seed",
        "bias",
        "logprob",
        "ngrams",
        "penalised",
    )

    def __init__(self, params: SamplingParams, prompt_token_ids: list[int], bias: LogitBias | None = None) -> None:
        self._seed = params.seed
        self._random: random.Random | None = None
        self._draw: float | None = None
        self._num_output_tokens = 0
        self.logprob: RawLogprob | None = None
        self.bias = bias
        self._last_ids: deque[int] = deque(prompt_token_ids, maxlen=bias.longest_run if bias else 0)
        self.penalised = _token_counts(params)
        self.ngrams = NgramIndex(params.no_repeat_ngram_size) if params.no_repeat_ngram_size > 0 else None
        if self.penalised is not None:
            window = params.repeat_last_n
            for token_id in prompt_token_ids[-window:] if window > 0 else prompt_token_ids:
                self.penalised.add(token_id)
        if self.ngrams is not None:
            for token_id in prompt_token_ids:
                self.ngrams.add(token_id)

    @property
    def adjusts(self) -> bool:
        """Whether logits change by what came before or by a bias."""
        return self.penalised is not None or self.ngrams is not None or self.bias is not None

    def banned(self) -> list[int]:
        """The ids that must not come next."""
        ids = self.ngrams.banned() if self.ngrams is not None else []
        if self.bias is not None:
            ids += self.bias.banned(self._num_output_tokens, list(self._last_ids))
        return ids

    @property
    def forbids(self) -> bool:
        """Whether some tokens must not come at all, or not behind some others."""
        return self.bias is not None and self.bias.forbids

    def forbidden_after(self, token_ids: Sequence[int]) -> set[int]:
        """The ids that a bias forbids behind these further tokens."""
        if self.bias is None:
            return set()
        last_ids = [*self._last_ids, *token_ids]
        return {*self.bias.never_ids, *self.bias.banned(self._num_output_tokens + len(token_ids), last_ids)}

    def accept(self, token_id: int) -> None:
        """The token was sampled and is kept."""
        self._draw = None
        self._num_output_tokens += 1
        self._last_ids.append(token_id)
        if self.penalised is not None:
            self.penalised.add(token_id)
        if self.ngrams is not None:
            self.ngrams.add(token_id)

    def draw(self) -> float:
        """A number in [0, 1) for the next token: the same until that is accepted, however often a step is tried."""
        if self._random is None:
            seed = random.SystemRandom().randrange(_SEED_RANGE) if self._seed is None else self._seed
            self._random = random.Random(seed % _SEED_RANGE)
        if self._draw is None:
            self._draw = self._random.random()
        return self._draw


def _token_counts(params: SamplingParams) -> TokenCounts | None:
    is_on = params.repetition_penalty != 1.0 or params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
    return TokenCounts(params.repeat_last_n) if is_on and params.repeat_last_n != 0 else None
