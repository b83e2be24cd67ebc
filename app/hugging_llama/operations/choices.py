"""Several answers to one request, side by side in one stream."""

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError
from hugging_llama.neutral.events import AnswerStream, GenerateEvent, Progress
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.requests import GenerateCall
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.generation import generate
from hugging_llama_config.settings import Settings


class Choices:
    """An EventStream of choice numbers and their events; it ends with the last of them, and the first error ends all.

    Who has something to say says it, the one that has been silent for longest first: some may wait for a place in the
    batch that others have. Progress is that of the first choice.
    """

    def __init__(self, streams: list[AnswerStream]) -> None:
        self._streams = streams
        self._turns = deque(enumerate(streams))
        self._speaker: tuple[int, AnswerStream] | None = None

    def __iter__(self) -> Iterator[tuple[int, GenerateEvent]]:
        return self

    def __next__(self) -> tuple[int, GenerateEvent]:
        while turn := self._next_turn():
            index, stream = turn
            try:
                event = next(stream)
            except StopIteration:
                self._speaker = None
                self._leave(turn)
                continue
            except HuggingLlamaError:
                self.close()
                raise
            if not isinstance(event, Progress):
                self._speaker = turn
                if self._leave(turn):
                    self._turns.append(turn)
            return index, event
        raise StopIteration

    def _next_turn(self) -> tuple[int, AnswerStream] | None:
        """Where nobody has anything to say, who spoke last is waited for, as its sequence is one that goes on."""
        turns = tuple(self._turns)
        ready = next((turn for turn in turns if turn[1].is_ready), None)
        return ready or self._speaker or next(iter(turns), None)

    def _leave(self, turn: tuple[int, AnswerStream]) -> bool:
        """Whether it was there: somebody may have closed all of them."""
        with contextlib.suppress(ValueError):
            self._turns.remove(turn)
            return True
        return False

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
