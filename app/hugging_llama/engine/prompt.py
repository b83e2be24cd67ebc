"""A prompt to token ids: by a chat template, the model's own or another, by a plain one where there is none, by the
tokens for a gap to fill, or the text or the ids as they are.

The plain template, for models without one: a single user message is its text, with the system text and an empty
line in front if there is any; a longer chat is a paragraph per message, labelled `System:`, `User:`, `Assistant:` or
`Tool:`, and `Assistant:` at the end.
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hugging_llama.engine.chat_format import ChatFormat
from hugging_llama.engine.chat_messages import (
    last_turn,
    plain_text,
    template_messages,
    template_tools,
    template_variables,
    with_system,
    with_text_arguments,
)
from hugging_llama.engine.chat_styles import ChatStyle, ChatStyles
from hugging_llama.engine.control_tokens import marked_ids
from hugging_llama.engine.deadline import read_in_time
from hugging_llama.engine.infill import Infill, nearest
from hugging_llama.engine.response_template import ResponseTemplate
from hugging_llama.engine.template_process import TemplateFaultError, TemplateProcess
from hugging_llama.engine.text_limit import TextLimit
from hugging_llama.errors import ContextLengthError, InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.infill import takes_suffix
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, InsertPrompt, TextPrompt, TokensPrompt
from hugging_llama.parsing.thinking_tags import ThinkingTags
from hugging_llama.parsing.tool_formats import ToolFormat

_TAIL_TOKENS = 24
"""So many ids at the end of a prompt are read back to see whether it opens the thinking."""

_ANSWER_HEAD_TOKENS = 256
"""And so many to see what it has written of the answer."""

_MOST_EXTRA_DROPS = 8

_LONGEST_RENDERING_S = 10.0
_QUICK_S = 0.5
"""Of the CPU's time; real templates take thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """Ids of a prompt and how its answer is to be read.

    `thinking` None: not searched for reasoning; `inside_thinking`: the prompt has opened it; `show_thinking`: the
    caller wants to see it. `tool_syntax` None: not searched for calls. `has_channels` as in ChatFormat.
    `num_truncated_tokens`: how many did not fit. `template` is what it was rendered by. `end_ids` end the answer beside
    the ends of the model; `shown_ids` are markers in it that must not be hidden. `response` None: the answer is not
    read by a template for responses; `begun` is what the prompt has written of it.
    """

    token_ids: list[int]
    num_truncated_tokens: int = 0
    thinking: ThinkingTags | None = None
    inside_thinking: bool = False
    show_thinking: bool = True
    tool_syntax: ToolFormat | None = None
    has_channels: bool = False
    template: str = ""
    end_ids: frozenset[int] = frozenset()
    shown_ids: frozenset[int] = frozenset()
    response: ResponseTemplate | None = None
    begun: str = ""


class PromptRenderer:
    """Renders for one model. Thread-safe; renderings of one model take turns, since tokenizers have state.

    `vocabulary_size`: ids that callers send must be below it. `longest_context` is the model's. `is_slow`: its own
    template has taken too much once, so that its chats had better not hold up those of other models.
    """

    def __init__(
        self,
        tokenizer: Any,
        format: ChatFormat,
        *,
        vocabulary_size: int,
        templates: TemplateProcess,
        longest_context: int = 0,
        longest_rendering_s: float = _LONGEST_RENDERING_S,
    ) -> None:
        self._longest_rendering_s = longest_rendering_s
        self._tokenizer = tokenizer
        self._limit = TextLimit(tokenizer, longest_context)
        self._templates = templates
        self._styles = ChatStyles(tokenizer, format)
        self._infill = Infill.of(tokenizer, self._encode)
        self._vocabulary_size = vocabulary_size
        self._bos_ids = _bos_ids(tokenizer)
        self.lock = threading.Lock()
        self.is_slow = False
        self._rendered_s, self._was_ended = 0.0, False  # of the request at hand

    @property
    def has_template(self) -> bool:
        """Whether the model has one of its own."""
        return self._styles.of("").format.template is not None

    def render(self, request: GenerateRequest, *, context_length: int) -> RenderedPrompt:
        """At most `context_length` - 1 ids, so that one more fits.

        Raises InvalidRequestError where the template refuses the messages, ContextLengthError for a prompt that is
        too long if the request does not allow to shorten it: `truncate` drops messages and, only with `shift`, cuts
        what is left in the middle. TextTooLongError for more text than is tokenised at once.
        """
        self._limit.check(request.prompt)
        with self.lock:
            self._rendered_s, self._was_ended = 0.0, False
            if isinstance(request.prompt, TextPrompt | TokensPrompt):
                whole = self._as_it_is(request.prompt)
                ids = self._fitted(whole, request, context_length)
                return RenderedPrompt(token_ids=ids, num_truncated_tokens=len(whole) - len(ids))
            if isinstance(request.prompt, InsertPrompt):
                return self._insert(request.prompt, request, context_length)
            return self._chat(request.prompt, request, context_length)

    def encode(self, text: str) -> list[int]:
        """The ids of `text` alone, without special tokens around it."""
        with self.lock:
            return self._encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """What ids say, special tokens spelt out. Raises InvalidRequestError for those outside of the vocabulary."""
        ids = self._checked(token_ids, "tokens")
        with self.lock:
            text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            return text

    def _chat(self, prompt: ChatPrompt, request: GenerateRequest, context_length: int) -> RenderedPrompt:
        context = self._checked(prompt.context, "context")
        limit = context_length - len(context)
        style = self._styles.of(prompt.template)
        ids = self._rendered(style, prompt, prompt.messages)
        num_tokens = len(context) + len(ids)
        if len(ids) >= limit and request.truncate:
            ids = self._shortened(style, prompt, ids, max(limit - _room(request, context_length), 0))
        if context and self._bos_ids and ids[: len(self._bos_ids)] == self._bos_ids:
            ids = ids[len(self._bos_ids) :]
            num_tokens -= len(self._bos_ids)
        ids = self._fitted([*context, *ids], request, context_length)
        thinking = style.format.thinking
        return RenderedPrompt(
            token_ids=ids,
            num_truncated_tokens=max(num_tokens - len(ids), 0),
            thinking=thinking,
            inside_thinking=thinking is not None and self._end(ids).rstrip().endswith(thinking.open.rstrip()),
            show_thinking=prompt.think is not False,
            tool_syntax=style.format.tool_syntax if prompt.tools and prompt.tool_choice.mode != "none" else None,
            has_channels=style.format.has_channels,
            template=style.format.template or "",
            end_ids=style.end_ids,
            shown_ids=style.shown_ids,
            response=style.response,
            begun=style.response.begun(self._end(ids, _ANSWER_HEAD_TOKENS)) if style.response else "",
        )

    def _as_it_is(self, prompt: TextPrompt | TokensPrompt) -> list[int]:
        if isinstance(prompt, TokensPrompt):
            return self._checked(prompt.token_ids, "prompt")
        return self._with_bos(self._encode(prompt.text))

    def _insert(self, prompt: InsertPrompt, request: GenerateRequest, context_length: int) -> RenderedPrompt:
        """By a template that takes a suffix, else by the tokenizer's own tokens."""
        end_ids = self._infill.end_ids if self._infill else frozenset()
        style = self._styles.of(prompt.template if takes_suffix(prompt.template) else "")
        if takes_suffix(style.format.template or ""):
            whole = self._applied(
                style,
                [{"role": "user", "content": prompt.prefix}],
                None,
                {"prompt": prompt.prefix, "suffix": prompt.suffix},
            )
            ids = self._fitted(whole, request, context_length)
            return RenderedPrompt(
                token_ids=ids, num_truncated_tokens=len(whole) - len(ids), end_ids=style.end_ids | end_ids
            )
        if self._infill is None:
            raise UnsupportedCapabilityError(request.model.name, ["insert"])
        before, behind = self._infill.parts(prompt.prefix, prompt.suffix)
        ids = self._bos_ids + self._infill.joined(before, behind)
        num_tokens = len(ids)
        if num_tokens >= context_length:
            if not (request.truncate and request.shift):
                raise ContextLengthError(num_tokens, context_length)
            room = context_length - _room(request, context_length) - (num_tokens - len(before) - len(behind))
            ids = self._bos_ids + self._infill.joined(*nearest(before, behind, max(room, 0)))
            ids = self._fitted(ids, request, context_length)
        return RenderedPrompt(token_ids=ids, num_truncated_tokens=num_tokens - len(ids), end_ids=end_ids)

    def _rendered(self, style: ChatStyle, prompt: ChatPrompt, messages: Sequence[Message]) -> list[int]:
        if style.format.template is None:
            text = plain_text(messages, continues=prompt.continues)
            return self._with_bos(self._encode(style.control_tokens.defused(text)))
        wanted = style.format.messages
        rows = template_messages(messages, wanted)
        # a model that is not to call any tool is not told of them
        tools = template_tools(prompt.tools if prompt.tool_choice.mode != "none" else ())
        if tools and wanted.tools_in_system:
            rows = with_system(rows, tools=json.dumps([tool["function"] for tool in tools], ensure_ascii=False))
        if prompt.think is False and wanted.off_switch:
            rows = with_system(rows, text=wanted.off_switch)
        variables = template_variables(prompt.think, has_channels=style.format.has_channels)
        if style.given is not None:
            variables |= last_turn(messages)
        return self._applied(style, rows, tools or None, variables, continues=prompt.continues)

    def _applied(
        self, style: ChatStyle, rows: Any, tools: Any, variables: dict[str, Any], *, continues: bool = False
    ) -> list[int]:
        """Raises InvalidRequestError where the template fails on these messages, whether the arguments of their calls
        are objects or text. One that has no place for the beginning of an answer gets a new turn."""
        given = rows
        rows, tools = style.control_tokens.defused_keys([rows, tools])
        try:
            try:
                ids = self._apply(style, rows, tools, variables, sanitize=True, continues=continues)
            except ValueError as error:
                if continues and "continue_final_message" in str(error):
                    return self._applied(style, given, tools, variables)
                if "sanitize" not in str(error):
                    raise
                # This tokenizer makes a control token of the plain text; then the text itself has to differ.
                rows, tools, variables = style.control_tokens.defused([rows, tools, variables])
                ids = self._apply(style, rows, tools, variables, sanitize=False, continues=continues)
        except TemplateFaultError as fault:
            as_text = None if fault.is_costly else with_text_arguments(given)
            if as_text is None:
                raise self._refusal(style, fault) from None
            return self._applied(style, as_text, tools, variables, continues=continues)
        except (TypeError, ValueError) as error:
            raise self._refusal(style, TemplateFaultError("can't render these messages")) from error
        return self._with_bos(ids) if style.adds_bos else ids

    def _refusal(self, style: ChatStyle, fault: TemplateFaultError) -> InvalidRequestError:
        is_own = style.given is None
        self.is_slow |= is_own and fault.is_costly
        self._was_ended |= fault.is_costly
        whose = "the model's chat template" if is_own else "this template"
        return InvalidRequestError(f"{whose} {fault}", param=None if is_own else "template")

    def _apply(
        self, style: ChatStyle, rows: Any, tools: Any, variables: dict[str, Any], *, sanitize: bool, continues: bool
    ) -> list[int]:
        """As `apply_chat_template` does, but a template is code by a stranger, so it has a process of its own."""
        if sanitize:
            rows, tools, variables = style.control_tokens.marked([rows, tools, variables])
        template = self._tokenizer.get_chat_template(tools=tools) if style.given is None else style.given
        values = {**self._tokenizer.special_tokens_map, **variables}
        left_s = self._longest_rendering_s - self._rendered_s  # of one request, however often its chat is shortened
        began_at = time.monotonic()
        try:
            text = self._templates.render(template, rows, tools, values, longest_s=left_s, continues=continues)
        finally:
            self._rendered_s += time.monotonic() - began_at
            self.is_slow |= style.given is None and self._templates.took_s > _QUICK_S
        self._limit.check(text)
        return read_in_time(lambda: marked_ids(self._tokenizer, text) if sanitize else self._encode(text))

    def _shortened(self, style: ChatStyle, prompt: ChatPrompt, ids: list[int], limit: int) -> list[int]:
        """Drops the oldest messages until `limit` ids hold the rest; system messages and the last one stay.

        Finds the fewest by bisection: rendering after each one dropped would be slow for a long chat.
        """
        oldest = [i for i, message in enumerate(prompt.messages[:-1]) if message.role != "system"]
        if not oldest:
            return ids
        too_few, enough = 0, len(oldest)
        best = self._rendered_without(style, prompt, oldest, enough) or ids
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            rendered = self._rendered_without(style, prompt, oldest, middle)
            if rendered is not None and len(rendered) <= limit:
                enough, best = middle, rendered
            else:
                too_few = middle
        return best

    def _rendered_without(
        self, style: ChatStyle, prompt: ChatPrompt, oldest: list[int], number: int
    ) -> list[int] | None:
        """The chat without the `number` oldest messages, or a few more: some templates want turns in order."""
        for dropped in range(number, min(number + _MOST_EXTRA_DROPS, len(oldest)) + 1):
            gone = set(oldest[:dropped])
            try:
                return self._rendered(style, prompt, [m for i, m in enumerate(prompt.messages) if i not in gone])
            except InvalidRequestError:
                if self._was_ended:
                    raise
        return None

    def _fitted(self, ids: list[int], request: GenerateRequest, context_length: int) -> list[int]:
        """`ids` if they leave room for a token; else the first `num_keep` and the newest, or an error."""
        if len(ids) < context_length:
            return ids
        if not (request.truncate and request.shift):
            raise ContextLengthError(len(ids), context_length)
        size = max(context_length - _room(request, context_length), 1)
        num_keep = request.sampling.num_keep
        head = min(num_keep if num_keep >= 0 else size, size - 1)
        return ids[:head] + ids[len(ids) - (size - head) :]

    def _encode(self, text: str) -> list[int]:
        self._limit.check(text)
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("the prompt is not valid Unicode text") from error

    def _with_bos(self, ids: list[int]) -> list[int]:
        """`ids` after what this tokenizer puts at the start of a text, unless the text has it already."""
        return ids if ids[: len(self._bos_ids)] == self._bos_ids else self._bos_ids + ids

    def _end(self, ids: list[int], size: int = _TAIL_TOKENS) -> str:
        return str(self._tokenizer.decode(ids[-size:], skip_special_tokens=False))

    def _checked(self, token_ids: Sequence[int], param: str) -> list[int]:
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self._vocabulary_size:
            raise InvalidRequestError(f"{param} holds ids that this model does not have", param=param)
        return list(token_ids)


def _room(request: GenerateRequest, context_length: int) -> int:
    """Tokens to leave for the answer when a prompt has to be cut anyway: what is asked, a quarter at most."""
    quarter = max(context_length // 4, 1)
    wanted = request.sampling.max_tokens
    return quarter if wanted is None else max(1, min(wanted, quarter))


def _bos_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of every text: its begin-of-text id, or nothing."""
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        return []
    ids = tokenizer.encode("a", add_special_tokens=True)
    return [bos] if ids and ids[0] == bos else []
