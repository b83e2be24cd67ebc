"""Token ids of one sequence to the events of its stream: text, stop strings, thinking, tool calls."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.engine.response_template import ResponseReader
from hugging_llama.neutral.events import GenerateEvent, TextDelta, ThinkingDelta, ToolCallDelta
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.dropped_tag import DroppedTag
from hugging_llama.parsing.harmony import HarmonyParser
from hugging_llama.parsing.parts import Part, Thought
from hugging_llama.parsing.stop_strings import StopStrings
from hugging_llama.parsing.thinking import ThinkingParser
from hugging_llama.parsing.thinking_tags import ThinkingTags
from hugging_llama.parsing.tool_calls import ToolCallParser, new_call_id
from hugging_llama.parsing.tool_formats import ToolFormat


class AnswerProcessor:
    """The OutputProcessor of a sequence; ids go in one by one, events come out when they are certain.

    `prompt_ids` are the ids before the answer, `hidden_ids` those without text. `thinking` None: the answer is not
    searched for reasoning; `show_thinking` False drops it. `tool_syntax` None: it is not searched for calls;
    `tool_schemas` are the tools' parameters by name. `has_channels` as in ChatFormat. `reader` reads the whole answer
    in place of all that. `is_cut`: whether the reasoning was ended for the model; it may do so itself a moment later,
    and that closing tag is part of nothing. `one_call`: the answer ends with its first call.

    `num_thinking_tokens` counts the tokens of reasoning, shown or not: those that came inside of it, the one that ended
    it, and the one that opened it. `is_aside`: the last token is known to be no part of the answer's text; one that has
    no text yet may become part of it.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        prompt_ids: Sequence[int] = (),
        hidden_ids: frozenset[int] = frozenset(),
        stops: Sequence[str] = (),
        thinking: ThinkingTags | None = None,
        inside_thinking: bool = False,
        show_thinking: bool = True,
        tool_syntax: ToolFormat | None = None,
        tool_schemas: Mapping[str, Mapping[str, Any]] = {},
        has_channels: bool = False,
        reader: ResponseReader | None = None,
        is_cut: Callable[[], bool] = lambda: False,
        one_call: bool = False,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt_ids=prompt_ids, hidden_ids=hidden_ids)
        self._stop_strings = StopStrings(stops)
        self._show_thinking = show_thinking
        self._finished = False
        self._one_call = one_call
        self.is_whole = False
        self._has_thought = False
        self.num_thinking_tokens = 0
        self.is_aside = False
        self._is_cut = is_cut
        self._second_end = DroppedTag(thinking.close) if thinking else None
        self._messages = reader or (HarmonyParser(new_id=new_id) if has_channels else None)
        self._thinking = (
            ThinkingParser(
                open_tag=thinking.open,
                close_tag=thinking.close,
                answer_open=thinking.answer_open,
                answer_close=thinking.answer_close,
                inside=inside_thinking,
            )
            if thinking and not self._messages
            else None
        )
        self._calls = (
            ToolCallParser(tool_syntax, schemas=tool_schemas, new_id=new_id)
            if tool_syntax and not self._messages
            else None
        )

    @property
    def stop(self) -> str | None:
        """The stop string that was met: the sequence ends here."""
        return self._stop_strings.found

    def push(self, token_id: int) -> list[GenerateEvent]:
        """What this token makes certain, in order."""
        if self._finished or self.is_whole or self.stop is not None:
            return []
        self._has_thought = self._is_thinking
        text = self._detokenizer.push(token_id)
        events = self._parsed(text) if text else []
        parser = self._messages or self._thinking
        self.is_aside = parser is not None and (parser.is_aside if text else parser.is_inside)
        self.num_thinking_tokens += self._has_thought or self._is_thinking
        return events

    def finish(self) -> list[GenerateEvent]:
        """What was held back; called once, after the last token. A second call gives nothing."""
        if self._finished:
            return []
        self._finished = True
        if self.is_whole or self.stop is not None:
            return []
        events = self._parsed(self._detokenizer.finish())
        if self._messages:
            events += self._messaged(self._messages.finish())
        if self._thinking:
            thinking, answer = self._thinking.finish()
            events += self._thought(thinking) + self._answered(answer)
        if self._second_end:
            events += self._called(self._second_end.finish())
        if self._calls:
            events += self._said(self._calls.finish())
        if self.stop is None and (held_back := self._stop_strings.finish()):
            events.append(TextDelta(held_back))
        return events

    @property
    def _is_thinking(self) -> bool:
        parser = self._messages or self._thinking
        return parser is not None and parser.is_inside

    def _parsed(self, text: str) -> list[GenerateEvent]:
        if self._messages:
            return self._messaged(self._messages.push(text))
        if self._thinking is None:
            return self._answered(text)
        thinking, answer = self._thinking.push(text)
        return self._thought(thinking) + self._answered(answer)

    def _messaged(self, parts: Iterable[Part]) -> list[GenerateEvent]:
        events: list[GenerateEvent] = []
        for part in parts:
            if isinstance(part, str):
                events += self._answered(part)
            else:
                events += self._thought(part.text) if isinstance(part, Thought) else self._said([part])
        return events

    def _thought(self, text: str) -> list[GenerateEvent]:
        self._has_thought = self._has_thought or bool(text)
        return [ThinkingDelta(text)] if text and self._show_thinking else []

    def _answered(self, text: str) -> list[GenerateEvent]:
        return self._called(self._second_end.push(text) if self._second_end and self._is_cut() else text)

    def _called(self, text: str) -> list[GenerateEvent]:
        if not text:
            return []
        return self._said(self._calls.push(text) if self._calls else [text])

    def _said(self, parts: Iterable[str | ToolCall]) -> list[GenerateEvent]:
        """Stop strings are looked for in what the caller sees as text: the line breaks that a template puts around
        reasoning and calls would end every answer that is to stop at the end of a line."""
        events: list[GenerateEvent] = []
        for part in parts:
            if self.is_whole or self.stop is not None:
                break
            if not isinstance(part, str):
                # text before a call stays before it; a stop string does not reach across
                events += [TextDelta(held)] if (held := self._stop_strings.finish()) else []
                events.append(ToolCallDelta(part))
                self.is_whole = self._one_call
            elif text := self._stop_strings.push(part):
                events.append(TextDelta(text))
        return events
