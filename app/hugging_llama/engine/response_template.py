"""Answers read by the `response_template` that a tokenizer may bring: regions of a text by what opens and closes them.

transformers' own streaming parser finds the regions (`transformers.utils.chat_parsing`). What is in them is read here:
its parser would lose the rest of an answer over one call that is not well-formed.
"""

import importlib
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]

from hugging_llama.engine.memory import raise_if_out_of_memory
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.call_bodies import typed_calls, value_calls
from hugging_llama.parsing.partial import trailing_space
from hugging_llama.parsing.parts import Part, Thought, joined
from hugging_llama.parsing.raw_calls import Schemas
from hugging_llama.parsing.tool_calls import new_call_id

_log = logging.getLogger(__name__)

_THOUGHTS = frozenset({"reasoning_content", "reasoning", "thinking"})
_CALLS = "tool_calls"
_DELIMITERS = ("open", "open_pattern", "close", "close_pattern")
_LONGEST_PATTERN = 1000
_LONGEST_TEMPLATE = 2**15
"""Characters of all its texts. Real ones have some hundred; each is compiled, and literals are compared in pairs."""
_MOST_LITERALS = 100
"""Of one delimiter."""
_LONGEST_SEARCH_S = 1.0
"""Real ones take millionths."""
# of a group with repetitions or choices in it, which takes exponential time on some texts
_REPETITION = re.compile(r"(?<!\\)\)[*+{]")
# each time is compiled for itself, into 300 bytes
_COUNTS = re.compile(r"\{\s*(\d{0,9})\d*\s*(?:,\s*(\d{0,9})\d*\s*)?\}")
_MOST_TIMES = 1_000


class _Timed:
    """A pattern of the library `regex` whose search ends in a TimeoutError when it takes too long."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern
        self.groupindex = pattern.groupindex

    def search(self, text: str, at: int = 0, *, partial: bool = False) -> Any:
        return self._pattern.search(text, at, partial=partial, timeout=_LONGEST_SEARCH_S)

    def finditer(self, text: str) -> Iterator[Any]:
        found: Iterator[Any] = self._pattern.finditer(text, timeout=_LONGEST_SEARCH_S)
        return found


@dataclass(frozen=True, slots=True)
class ResponseTemplate:
    """`regions` is the template as transformers loads it, without what it would do to a region's text; `fields` are the
    loaded fields with that. `delimiters` are all texts and patterns by which regions begin and end, `value_patterns`
    those that are searched in a call."""

    regions: Any
    fields: Mapping[str, Any]
    delimiters: str
    value_patterns: tuple[Any, ...]

    @property
    def knows_calls(self) -> bool:
        """Whether it says how calls are written."""
        return _CALLS in self.fields

    def begun(self, prompt: str) -> str:
        """What the prompt has written of the answer already: what stands behind the last anchor in it."""
        try:
            ends = [found.end() for found in self.regions.start_anchor_re.finditer(prompt)]
        except TimeoutError:
            return ""
        return prompt[ends[-1] :] if ends else ""


def response_template(tokenizer: Any) -> ResponseTemplate | None:
    """The template of a tokenizer; None if it has none, or one that can't be used, which is logged."""
    raw = getattr(tokenizer, "response_template", None)
    if raw is None:
        return None
    try:
        return _load(raw)
    except Exception as error:  # whatever a stranger wrote there, or another version of transformers makes of it
        raise_if_out_of_memory(error)
        _log.warning("the tokenizer's response_template can't be used, answers are read without it: %s", error)
        return None


class ResponseReader:
    """Fed piece by piece; gives reasoning, text and whole calls in order, as HarmonyParser does.

    `begun` is what the prompt has written of the answer. Without `takes_calls` a call is text, as is what the template
    takes for a call and is none, without its delimiters.
    """

    def __init__(
        self,
        template: ResponseTemplate,
        begun: str = "",
        *,
        schemas: Schemas | None = None,
        takes_calls: bool = True,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._template = template
        self._schemas = schemas or {}
        self._takes_calls = takes_calls
        self._new_id = new_id
        self._num_calls = 0
        self._body = ""  # of a call that is being read
        self._space = ""  # at the end of a text: dropped if the region ends there
        self._at_start = True
        self._is_broken = False
        self.is_inside = False
        """Whether a region of reasoning is open."""
        self.is_aside = False
        """Whether what came last is known to be no part of a text: reasoning, a call, or a delimiter."""
        self._strips = all(field.content_args.get("strip", True) for field in template.fields.values())
        self._parser = _transformers("response_parser").ResponseParser(template.regions, prefix=begun)
        self._parts(self._parser.initial_events)
        self._space, self._at_start = "", True  # what the prompt holds is not said again

    def push(self, text: str) -> list[Part]:
        """More reasoning, text and calls; never an empty one."""
        return self._read(lambda: self._parser.feed(text), text)

    def finish(self) -> list[Part]:
        """What was held back."""
        return self._read(lambda: self._parser.finalize()[1], "")

    def _read(self, more: Callable[[], list[dict[str, Any]]], text: str) -> list[Part]:
        if self._is_broken:
            return joined([text])
        try:
            return self._parts(more(), text)
        except Exception as error:  # of a template that its loader took: the rest of the answer is text
            _log.warning("the tokenizer's response_template failed on an answer: %s", type(error).__name__)
            _log.debug("what it failed on", exc_info=error)  # may quote the answer
            self._is_broken, self.is_inside, self.is_aside = True, False, False
            return joined([self._body + self._space + text])

    def _parts(self, events: Iterable[Mapping[str, Any]], text: str = "") -> list[Part]:
        found: list[Part] = []
        # white space that comes before a text is dropped with it, though the parser has not told yet
        self.is_aside = self.is_inside or (self.is_aside and self._strips and text.isspace())
        for event in events:
            kind, name = event["type"], event["field"]
            if kind == "region_open":
                self._body, self._space, self._at_start = "", "", True
                self.is_inside = name in _THOUGHTS
            elif kind == "region_chunk" and name == _CALLS:
                self._body += event["text"]
            elif kind == "region_chunk":
                found.append(self._said(name, event["text"]))
                self.is_aside = self.is_inside or self._at_start
                continue
            elif kind == "region_close":
                self.is_inside = False
                found += self._closed(name, event["value"])
            self.is_aside = True
        return joined(found)

    def _said(self, name: str, text: str) -> Part:
        """More of a text; white space at both ends of a region is dropped, unless the template wants it kept."""
        if self._template.fields[name].content_args.get("strip", True):
            text = self._space + (text.lstrip() if self._at_start else text)
            size = len(text) - trailing_space(text)
            text, self._space = text[:size], text[size:]
        self._at_start = self._at_start and not text
        return Thought(text) if name in _THOUGHTS else text

    def _closed(self, name: str, value: Mapping[str, Any]) -> list[Part]:
        self._space = ""
        if name != _CALLS:
            return []
        body, self._body = str(value["body"]), ""
        if not self._takes_calls:
            return [body]
        try:
            for pattern in self._template.value_patterns:  # which transformers applies without a limit
                deque(pattern.finditer(body), maxlen=0)
            process = _transformers("content_parsers").process_field
            read = process(body, self._template.fields[name], dict(value["captures"]))
            calls = typed_calls(value_calls(read), self._schemas)
        except (ValueError, LookupError, TypeError, RecursionError, TimeoutError):
            return [body]
        self._num_calls += len(calls)
        return [
            ToolCall(id=self._new_id(), name=called, arguments=arguments, index=self._num_calls - len(calls) + number)
            for number, (called, arguments) in enumerate(calls)
        ]


def _load(raw: Any) -> ResponseTemplate:
    """Raises whatever there is to raise."""
    _check_size(raw)
    load = _transformers("response_templates").load_response_template
    whole = load(raw)
    fields = {name: _region(raw["fields"][name], field) for name, field in whole.fields.items()}
    regions = load({**raw, "defaults": {}, "fields": fields})
    regions.start_anchor_re = _timed(regions.start_anchor_re)
    for field in regions.fields.values():
        field.open_re, field.close_re = _timed(field.open_re), _timed(field.close_re)
    calls = raw["fields"].get(_CALLS, {})
    template = ResponseTemplate(
        regions=regions,
        value_patterns=tuple(
            _Timed(regex.compile(text, regex.DOTALL)) for text in _value_patterns(calls.get("content_args", {}))
        ),
        fields=whole.fields,
        delimiters="\n".join(_texts(raw, "start_anchor", "start_anchor_pattern") + _field_texts(raw)).replace("\\", ""),
    )
    probe = ResponseReader(template)
    if joined([*probe.push("a"), *probe.finish()]) != ["a"] and template.regions.implicit is not None:
        raise ValueError("transformers' parser does not do what it did")
    return template


def _check_size(raw: Any) -> None:
    """Before anything is compiled. Raises ValueError, and more for what is no template at all."""
    if len(json.dumps(raw)) > _LONGEST_TEMPLATE:
        raise ValueError("it is too long")
    for field in (raw, *raw["fields"].values()):
        if any(isinstance(value, list) and len(value) > _MOST_LITERALS for value in field.values()):
            raise ValueError("a delimiter has too many literals")
    for pattern in _patterns(raw):
        counts = [int(number) for found in _COUNTS.findall(pattern) for number in found if number]
        if len(pattern) > _LONGEST_PATTERN or _REPETITION.search(pattern) or max(counts, default=0) > _MOST_TIMES:
            raise ValueError(f"the pattern {pattern[:60]!r} may take for ever")


def _timed(pattern: Any) -> _Timed | None:
    return None if pattern is None else _Timed(pattern)


def _region(raw: Mapping[str, Any], field: Any) -> dict[str, Any]:
    """A field whose text comes as it is, with what its opening delimiter captured."""
    captures = {name: "{" + name + "}" for name in (field.open_re.groupindex if field.open_re else ())}
    return {
        **{key: raw[key] for key in _DELIMITERS if key in raw},
        "repeats": True,
        "content": "text",
        "content_args": {"strip": False},
        "transform": {"body": "{content}", "captures": captures},
    }


def _transformers(module: str) -> Any:
    """A young part of transformers, which other versions may not have."""
    return importlib.import_module(f"transformers.utils.chat_parsing.{module}")


def _patterns(raw: Mapping[str, Any]) -> list[str]:
    found = _texts(raw, "start_anchor_pattern")
    for field in raw["fields"].values():
        found += _texts(field, "open_pattern", "close_pattern")
        found += _value_patterns(field.get("content_args", {}))
    return found


def _value_patterns(args: Mapping[str, Any]) -> list[str]:
    inner = args.get("value_parser") or {}
    return _texts(args, "tag_pattern") + (_value_patterns(inner.get("args", {})) if inner else [])


def _field_texts(raw: Mapping[str, Any]) -> list[str]:
    return [text for field in raw["fields"].values() for text in _texts(field, *_DELIMITERS)]


def _texts(values: Mapping[str, Any], *keys: str) -> list[str]:
    found = [values[key] for key in keys if key in values]
    return [text for value in found for text in (value if isinstance(value, list) else [value])]
