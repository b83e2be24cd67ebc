"""An answer as it grows: the engine's events become items, and the events that tell of them.

Reasoning is told as it is, `reasoning_text`, as OpenAI does for models whose reasoning is open. Who asks for a summary
gets the same text in its place, because that is where such clients look for it; it is not shortened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hugging_llama.dialects.openai.render import Json, logprobs_json
from hugging_llama.dialects.openai.responses.calls import call_events
from hugging_llama.dialects.openai.responses.ids import new_item_id
from hugging_llama.dialects.openai.responses.sealed import seal
from hugging_llama.dialects.openai.responses.tools import ToolSet
from hugging_llama.dialects.openai.text_logprobs import TextLogprobs
from hugging_llama.neutral.events import GenerateEvent, TextDelta, ThinkingDelta, TokenLogprob, ToolCallDelta


@dataclass(slots=True)
class Answer:
    """`output` holds the items so far; the last one may still be open, and is not in it then."""

    tool_set: ToolSet
    summarises: bool = False
    seals: bool = False
    output: list[Json] = field(default_factory=list)
    _open: Json | None = None
    _texts: list[str] = field(default_factory=list)
    _entries: list[TokenLogprob] = field(default_factory=list)
    _logprobs: TextLogprobs = field(default_factory=TextLogprobs)

    def add(self, found: GenerateEvent) -> Iterator[Json]:
        """The events for more of the answer, without their numbers."""
        entries = self._logprobs.of(found)
        match found:
            case TextDelta("") | ThinkingDelta(""):
                pass
            case TextDelta(text):
                yield from self._text(text, entries)
            case ThinkingDelta(text):
                yield from self._thought(text)
            case ToolCallDelta(call):
                yield from self.close()
                item, events = call_events(call, self.tool_set.call_name(call.name), len(self.output))
                self.output.append(item)
                yield from events

    def end(self, *, is_whole: bool) -> Iterator[Json]:
        """The last events; a whole answer has a message, be it empty, or a call."""
        if is_whole and self._kind != "message" and not any(item["type"] != "reasoning" for item in self.output):
            yield from self._text("", ())
        yield from self.close("completed" if is_whole else "incomplete")

    def broken(self) -> list[Json]:
        """The items of an answer that goes no further."""
        return [*self.output, *([self._closed("incomplete")] if self._open else [])]

    def close(self, status: str = "completed") -> Iterator[Json]:
        """End the open item, if there is one."""
        if self._open is None:
            return
        item, text, at = self._closed(status), "".join(self._texts), self._at
        if item["type"] == "message":
            logprobs = _logprobs(self._entries)
            yield {"type": "response.output_text.done", **at, "content_index": 0, "text": text, "logprobs": logprobs}
            yield {"type": "response.content_part.done", **at, "content_index": 0, "part": item["content"][0]}
        elif self.summarises:
            yield {"type": "response.reasoning_summary_text.done", **at, "summary_index": 0, "text": text}
            part = item["summary"][0]
            yield {"type": "response.reasoning_summary_part.done", **at, "summary_index": 0, "part": part}
        else:
            yield {"type": "response.reasoning_text.done", **at, "content_index": 0, "text": text}
            yield {"type": "response.content_part.done", **at, "content_index": 0, "part": item["content"][0]}
        yield {"type": "response.output_item.done", "output_index": len(self.output), "item": item}
        self.output.append(item)
        self._open = None

    @property
    def _kind(self) -> str:
        return self._open["type"] if self._open else ""

    @property
    def _at(self) -> Json:
        return {"item_id": self._open["id"] if self._open else "", "output_index": len(self.output)}

    def _text(self, text: str, entries: Sequence[TokenLogprob]) -> Iterator[Json]:
        if self._kind != "message":
            yield from self.close()
            self._begin({"type": "message", "role": "assistant", "content": []})
            yield from self._added("content_part", "content_index", _output_text("", []))
        if text:
            self._texts.append(text)
            self._entries += entries
            delta = {"content_index": 0, "delta": text, "logprobs": _logprobs(entries)}
            yield {"type": "response.output_text.delta", **self._at, **delta}

    def _thought(self, text: str) -> Iterator[Json]:
        kind, index = (
            ("reasoning_summary_text", "summary_index") if self.summarises else ("reasoning_text", "content_index")
        )
        if self._kind != "reasoning":
            yield from self.close()
            self._begin({"type": "reasoning", "summary": [], "content": []})
            if self.summarises:
                yield from self._added("reasoning_summary_part", index, {"type": "summary_text", "text": ""})
            else:
                yield from self._added("content_part", index, {"type": "reasoning_text", "text": ""})
        self._texts.append(text)
        yield {"type": f"response.{kind}.delta", **self._at, index: 0, "delta": text}

    def _begin(self, item: Json) -> None:
        self._open = {"id": new_item_id(item["type"]), "status": "in_progress", **item}
        self._texts, self._entries = [], []

    def _added(self, what: str, index: str, part: Json) -> Iterator[Json]:
        yield {"type": "response.output_item.added", "output_index": len(self.output), "item": self._open}
        yield {"type": f"response.{what}.added", **self._at, index: 0, "part": part}

    def _closed(self, status: str) -> Json:
        text = "".join(self._texts)
        item = {**(self._open or {}), "status": status}
        if item["type"] == "message":
            return item | {"content": [_output_text(text, _logprobs(self._entries))]}
        sealed = {"encrypted_content": seal(text)} if self.seals else {}
        if self.summarises:
            return item | {"summary": [{"type": "summary_text", "text": text}]} | sealed
        return item | {"content": [{"type": "reasoning_text", "text": text}]} | sealed


def _output_text(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _logprobs(entries: Sequence[TokenLogprob]) -> list[Json]:
    found: list[Json] = logprobs_json(entries)["content"]
    return found
