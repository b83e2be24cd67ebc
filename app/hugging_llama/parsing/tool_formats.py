"""How families of models write tool calls, and which of these a chat template speaks of."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hugging_llama.parsing import call_bodies
from hugging_llama.parsing.gemma_calls import gemma_calls
from hugging_llama.parsing.python_calls import python_calls
from hugging_llama.parsing.raw_calls import RawCall, Schemas


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """One way to write calls.

    A call stands between `open` and `close`. Without `close` it ends where its value does; `starts` are the characters
    that such a value begins with, `quotes` those around its strings. `is_bare`: a value at the very beginning of an
    answer is a call without `open`, too. `between` may stand between two calls, `noise` is markup around them that says
    nothing, `inner` is markup within them. `needs_close`: without `close` nothing tells whether a call is whole.
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
    inner: tuple[str, ...] = ()
    needs_close: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that a parser must see, even where the tokenizer calls them special."""
        return tuple(text for text in (self.open, self.close, *self.noise, *self.inner) if text)


HERMES = ToolFormat(name="hermes", read=call_bodies.tagged_calls, open="<tool_call>", close="</tool_call>")
QWEN_CODER = ToolFormat(name="qwen-coder", read=call_bodies.tagged_calls, open="<tool_call>", close="</tool_call>")
GLM = ToolFormat(
    name="glm",
    read=call_bodies.tagged_calls,
    open="<tool_call>",
    close="</tool_call>",
    inner=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    needs_close=True,
)
HUNYUAN = ToolFormat(
    name="hunyuan",
    read=call_bodies.hunyuan_calls,
    open="<tool_call>",
    close="</tool_call>",
    noise=("<tool_calls>", "</tool_calls>"),
    inner=("<tool_sep>",),
)
SEED = ToolFormat(name="seed", read=call_bodies.element_calls, open="<seed:tool_call>", close="</seed:tool_call>")
MINIMAX = ToolFormat(
    name="minimax", read=call_bodies.invoke_calls, open="<minimax:tool_call>", close="</minimax:tool_call>"
)
MISTRAL = ToolFormat(
    name="mistral",
    read=call_bodies.mistral_calls,
    open="[TOOL_CALLS]",
    between=", ",
    inner=("[ARGS]", "[CALL_ID]"),
)
DEEPSEEK = ToolFormat(
    name="deepseek",
    read=call_bodies.deepseek_calls,
    open="<｜tool▁call▁begin｜>",
    close="<｜tool▁call▁end｜>",
    noise=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    inner=("<｜tool▁sep｜>",),
)
DSML = ToolFormat(
    name="dsml",
    read=call_bodies.dsml_calls,
    open="<｜DSML｜function_calls>",
    close="</｜DSML｜function_calls>",
    inner=("｜DSML｜",),
)
KIMI = ToolFormat(
    name="kimi",
    read=call_bodies.kimi_calls,
    open="<|tool_call_begin|>",
    close="<|tool_call_end|>",
    noise=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    inner=("<|tool_call_argument_begin|>",),
)
GEMMA = ToolFormat(name="gemma", read=gemma_calls, open="<|tool_call>", close="<tool_call|>", inner=('<|"|>',))
FUNCTION_GEMMA = ToolFormat(
    name="function-gemma",
    read=gemma_calls,
    open="<start_function_call>",
    close="<end_function_call>",
    inner=("<escape>",),
)
PHI = ToolFormat(name="phi", read=call_bodies.json_calls, open="<|tool_call|>", close="<|/tool_call|>")
GRANITE = ToolFormat(name="granite", read=call_bodies.json_calls, open="<|tool_call|>")
COHERE = ToolFormat(name="cohere", read=call_bodies.json_calls, open="<|START_ACTION|>", close="<|END_ACTION|>")
FUNCTOOLS = ToolFormat(name="functools", read=call_bodies.json_calls, open="functools", starts="[")
NEMOTRON = ToolFormat(name="nemotron", read=call_bodies.json_calls, open="<TOOLCALL>", close="</TOOLCALL>")
JAMBA = ToolFormat(name="jamba", read=call_bodies.json_calls, open="<tool_calls>", close="</tool_calls>")
APERTUS = ToolFormat(name="apertus", read=call_bodies.keyed_calls, open="<|tools_prefix|>", close="<|tools_suffix|>")
LFM = ToolFormat(name="lfm", read=python_calls, open="<|tool_call_start|>", close="<|tool_call_end|>", quotes="\"'")
OLMO = ToolFormat(name="olmo", read=python_calls, open="<function_calls>", close="</function_calls>")
LLAMA = ToolFormat(
    name="llama-json",
    read=call_bodies.json_calls,
    open="<|python_tag|>",
    is_bare=True,
    between=";,",
    noise=("<|eom_id|>",),
)
LLAMA_4 = ToolFormat(
    name="llama-4",
    read=call_bodies.llama_calls,
    is_bare=True,
    quotes="\"'",
    between=";,",
    noise=("<|python_start|>", "<|python_end|>", "<|eom|>"),
)
PYTHONIC = replace(LLAMA_4, name="pythonic")
JSON = ToolFormat(name="json", read=call_bodies.json_calls, is_bare=True, between=";,")

HARMONY = ToolFormat(
    name="harmony",
    read=call_bodies.json_calls,
    noise=("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"),
)
"""gpt-oss: `parsing.harmony` reads its answers as a whole."""

_BY_MARKS: tuple[tuple[ToolFormat, tuple[str, ...]], ...] = (
    (HARMONY, ("<|channel|>",)),
    (MINIMAX, ("<minimax:tool_call>",)),
    (SEED, ("<seed:tool_call>",)),
    (DSML, ("｜DSML｜",)),
    (DEEPSEEK, ("<｜tool▁call▁begin｜>",)),
    (KIMI, ("<|tool_call_begin|>",)),
    (KIMI, ("tool_declare<|im_middle|>",)),
    (LFM, ("<|tool_call_start|>",)),
    (LFM, ("<|tool_list_start|>",)),
    (GEMMA, ("<|tool_call>",)),
    (FUNCTION_GEMMA, ("<start_function_call>",)),
    (COHERE, ("<|START_ACTION|>",)),
    (APERTUS, ("<|tools_prefix|>",)),
    (QWEN_CODER, ("<tool_call>", "<function=")),
    (GLM, ("<arg_key>",)),
    (HUNYUAN, ("<tool_sep>",)),
    (HERMES, ("<tool_call>",)),
    (FUNCTOOLS, ("functools[",)),
    (PHI, ("<|/tool_call|>",)),
    (PHI, ("<|/tool|>",)),
    (GRANITE, ("<|tool_call|>",)),
    (MISTRAL, ("[TOOL_CALLS]",)),
    (NEMOTRON, ("<TOOLCALL>",)),
    (JAMBA, ("<tool_calls>",)),
    (OLMO, ("<function_calls>",)),
    (PYTHONIC, ("[func_name1(",)),
    (LLAMA_4, ("<|python_start|>",)),
    (LLAMA, ("<|python_tag|>",)),
    (LLAMA, ("<|eom_id|>",)),
)
"""In this order: the first format all of whose marks a template holds."""


def tool_format(template: str) -> ToolFormat | None:
    """The format that a chat template teaches or shows; None if it knows no tools.

    One that asks for something else in words alone, mostly for JSON, gives JSON.
    """
    if "tools" not in template and "tool_calls" not in template:
        return None
    return next((found for found, marks in _BY_MARKS if all(mark in template for mark in marks)), JSON)
