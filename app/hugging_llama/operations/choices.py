"""Several answers to one request, side by side in one stream."""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError
from hugging_llama.neutral.events import AnswerStream, GenerateEvent
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.requests import GenerateCall
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.generation import generate
from hugging_llama_config.settings import Settings


class Choices:
    """An EventStream of choice numbers and their events; it ends with the last of them, and the first error ends all.

    Who has something to say says it, those who have take turns: some may wait for a place in the batch that others
    have. Progress is that of the first choice.
    """

    def __init__(self, streams: list[AnswerStream]) -> None:
        self._streams = streams
        self._turns = deque(enumerate(streams))
        self._rung = threading.Event()
        for stream in streams:
            stream.listen(self._rung.set)

    def __iter__(self) -> Iterator[tuple[int, GenerateEvent]]:
        return self

    def __next__(self) -> tuple[int, GenerateEvent]:
        while turn := self._next_turn():
            index, stream = turn
            try:
                return index, next(stream)
            except StopIteration:
                with contextlib.suppress(ValueError):  # somebody has closed it meanwhile
                    self._turns.remove(turn)
            except HuggingLlamaError:
                self.close()
                raise
        raise StopIteration

    def _next_turn(self) -> tuple[int, AnswerStream] | None:
        """Waits until one of them is ready; None where all have ended."""
        while len(turns := tuple(self._turns)) > 1:
            self._rung.clear()
            for place, turn in enumerate(turns):
                if turn[1].is_ready:
                    self._turns.rotate(-(place + 1))
                    return turn
            late_in_s = min(stream.late_in_s for _, stream in turns)
            self._rung.wait(None if math.isinf(late_in_s) else max(late_in_s, 0.0))
        return turns[0] if turns else None

    def close(self) -> None:
        """End all of them."""
        self._turns.clear()
        for stream in self._streams:
            stream.close()


def generate_choices(ctx: AppContext, model: LocalModel, name: str, calls: list[GenerateCall], n: int) -> Choices:
    """`n` answers to each call, in the order of the calls. With a seed each has one of its own.

    Raises what `generation.generate` raises, and InvalidRequestError for more of them than can ever be here at once.
    """
    _check_count(len(calls) * n, ctx.settings)
    streams: list[AnswerStream] = []
    try:
        for call in calls:
            for number in range(n):
                one = replace(_seeded(call, number), tells_progress=call.tells_progress and not streams)
                streams.append(generate(ctx, model, name, one, shares_prompt=number > 0))
    except BaseException:
        for stream in streams:
            stream.close()
        raise
    return Choices(streams)


def _check_count(count: int, settings: Settings) -> None:
    """An idle engine would refuse the last ones as it does where its queue is full, however often they came."""
    most = settings.max_num_seqs + settings.max_queue
    if count > most:
        raise InvalidRequestError(
            f"the request asks for {count} answers, those to each of its prompts counted, and a model takes at most "
            f"{most} at once: send fewer prompts, or a smaller 'n'",
            param="n",
        )


def _seeded(call: GenerateCall, number: int) -> GenerateCall:
    seed = call.options.get("seed")
    return call if seed is None or number == 0 else replace(call, options={**call.options, "seed": seed + number})
