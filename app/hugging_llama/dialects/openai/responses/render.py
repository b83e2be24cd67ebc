"""Whole answers and streams, of the same events."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hugging_llama.dialects.error_answers import plain_sentence
from hugging_llama.dialects.openai.render import Json, encode, finish_reason
from hugging_llama.dialects.openai.responses.answer import Answer
from hugging_llama.dialects.openai.responses.response import failed, finished
from hugging_llama.dialects.progress import progress_json
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import Finished, GenerateEvent, Progress

Keep = Callable[[Json], bool]
"""Keeps a response that has ended; whether it could."""


@dataclass(slots=True)
class ResponseRenderer:
    """Renders one answer. `response` is its object at the beginning; `keep` None: it is not to be kept."""

    response: Json
    answer: Answer
    keep: Keep | None = None
    _number: int = field(default=0)

    def chunk(self, found: GenerateEvent) -> bytes:
        """The events of the stream for one event of the engine."""
        return self._written([*self._beginning(), *self._events(found)])

    def failure(self, error: HuggingLlamaError) -> bytes:
        """The last event of a stream that breaks off."""
        begin = self._beginning()
        self.response = failed(self.response, self.answer.broken(), error, plain_sentence(error))
        return self._written([*begin, self._state("failed")])

    def whole(self, items: Iterable[GenerateEvent]) -> Json:
        """The response at its end. Raises EngineShutdownError for one that was broken off."""
        for found in items:
            self._events(found)
        return self.response

    def _events(self, found: GenerateEvent) -> list[Json]:
        if isinstance(found, Progress):
            # of all types that carry nothing of the answer the one that OpenAI's helpers pass over
            return [{"type": "keepalive", "progress": progress_json(found)}]
        if not isinstance(found, Finished):
            return list(self.answer.add(found))
        is_whole = finish_reason(found) != "length"
        events = list(self.answer.end(is_whole=is_whole))
        response = finished(self.response, self.answer.output, found.usage, is_whole=is_whole)
        # before the last event is sent: whoever reads it may go on from it at once
        self.response = {**response, "store": self.keep is not None and self.keep(response)}
        return [*events, self._state(response["status"])]

    def _beginning(self) -> list[Json]:
        return [] if self._number else [self._state("created"), self._state("in_progress")]

    def _state(self, name: str) -> Json:
        return {"type": f"response.{name}", "response": self.response}

    def _written(self, events: list[Json]) -> bytes:
        lines = []
        for event in events:
            name: str = event["type"]
            data = encode({"type": name, "sequence_number": self._number, **event})
            lines.append(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")
            self._number += 1
        return b"".join(lines)
