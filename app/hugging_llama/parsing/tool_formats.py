"""How families of models write tool calls, and which of these a chat template speaks of."""

from collections.abc import Callable
from dataclasses import dataclass

from hugging_llama.parsing import call_bodies
from hugging_llama.parsing.call_bodies import RawCall, Schemas
from hugging_llama.parsing.gemma_calls import gemma_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """One way to write calls.

    A call stands between `open` and `close`. Without `close` it ends where its value does; `starts` are the characters
    that such a value begins with, `quotes` those around its strings. `is_bare`: a value at the very beginning of an
    answer is a call without `open`, too. `between` may stand between two calls, `noise` is markup around them that says
    nothing.
    """

    name: str
    read: Callable[[str, Schemas], list[RawCall]]
    open: str = ""
    close: str = ""
    starts: str = "{["
    quotes: str = '"'
    is_bare: bool = False
    between: str = ""
    noise: tuple[str, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that a parser must see, even where the tokenizer calls them special."""
        return tuple(text for text in (self.open, self.close, *self.noise) if text)


HERMES = ToolFormat(name="hermes", read=call_bodies.tagged_calls, open="<tool_call>", close="</tool_call>")
QWEN_CODER = ToolFormat(name="qwen-coder", read=call_bodies.tagged_calls, open="<tool_call>", close="</tool_call>")
GLM = ToolFormat(name="glm", read=call_bodies.tagged_calls, open="<tool_call>", close="</tool_call>")
SEED = ToolFormat(name="seed", read=call_bodies.element_calls, open="<seed:tool_call>", close="</seed:tool_call>")
MINIMAX = ToolFormat(
    name="minimax", read=call_bodies.invoke_calls, open="<minimax:tool_call>", close="</minimax:tool_call>"
)
MISTRAL = ToolFormat(name="mistral", read=call_bodies.mistral_calls, open="[TOOL_CALLS]", between=", ")
DEEPSEEK = ToolFormat(
    name="deepseek",
    read=call_bodies.deepseek_calls,
    open="<｜tool▁call▁begin｜>",
    close="<｜tool▁call▁end｜>",
    noise=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
)
KIMI = ToolFormat(
    name="kimi",
    read=call_bodies.kimi_calls,
    open="<|tool_call_begin|>",
    close="<|tool_call_end|>",
    noise=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
)
GEMMA = ToolFormat(name="gemma", read=gemma_calls, open="<|tool_call>", close="<tool_call|>")
FUNCTION_GEMMA = ToolFormat(
    name="function-gemma", read=gemma_calls, open="<start_function_call>", close="<end_function_call>"
)
PHI = ToolFormat(name="phi", read=call_bodies.json_calls, open="<|tool_call|>", close="<|/tool_call|>")
GRANITE = ToolFormat(name="granite", read=call_bodies.json_calls, open="<|tool_call|>")
COHERE = ToolFormat(name="cohere", read=call_bodies.json_calls, open="<|START_ACTION|>", close="<|END_ACTION|>")
FUNCTOOLS = ToolFormat(name="functools", read=call_bodies.json_calls, open="functools", starts="[")
NEMOTRON = ToolFormat(name="nemotron", read=call_bodies.json_calls, open="<TOOLCALL>", close="</TOOLCALL>")
JAMBA = ToolFormat(name="jamba", read=call_bodies.json_calls, open="<tool_calls>", close="</tool_calls>")
OLMO = ToolFormat(name="olmo", read=call_bodies.python_calls, open="<function_calls>", close="</function_calls>")
LLAMA = ToolFormat(
    name="llama-json",
    read=call_bodies.json_calls,
    open="<|python_tag|>",
    is_bare=True,
    between=";,",
    noise=("<|eom_id|>",),
)
PYTHONIC = ToolFormat(
    name="pythonic",
    read=call_bodies.python_calls,
    open="<|python_start|>",
    is_bare=True,
    starts="[",
    quotes="\"'",
    noise=("<|python_end|>",),
)
JSON = ToolFormat(name="json", read=call_bodies.json_calls, is_bare=True, between=";,")

HARMONY = ToolFormat(
    name="harmony",
    read=call_bodies.json_calls,
    noise=("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"),
)
"""gpt-oss: `parsing.harmony` reads its answers as a whole."""

_BY_MARK: tuple[tuple[str, ToolFormat], ...] = (
    ("<|channel|>", HARMONY),
    ("<minimax:tool_call>", MINIMAX),
    ("<seed:tool_call>", SEED),
    ("<｜tool▁call▁begin｜>", DEEPSEEK),
    ("<|tool_call_begin|>", KIMI),
    ("<|tool_call>", GEMMA),
    ("<start_function_call>", FUNCTION_GEMMA),
    ("<|START_ACTION|>", COHERE),
    ("<function=", QWEN_CODER),
    ("<arg_key>", GLM),
    ("<tool_call>", HERMES),
    ("<|/tool_call|>", PHI),
    ("<|tool_call|>", GRANITE),
    ("[TOOL_CALLS]", MISTRAL),
    ("<TOOLCALL>", NEMOTRON),
    ("<tool_calls>", JAMBA),
    ("<function_calls>", OLMO),
    ("functools[", FUNCTOOLS),
    ("<|python_start|>", PYTHONIC),
    ("<|python_tag|>", LLAMA),
    ("<|eom_id|>", LLAMA),
    ("[func_name1(", PYTHONIC),
)


def tool_format(template: str) -> ToolFormat | None:
    """The format that a chat template teaches or shows; None if it knows no tools."""
    if "tools" not in template and "tool_calls" not in template:
        return None
    return next((found for mark, found in _BY_MARK if mark in template), JSON)
