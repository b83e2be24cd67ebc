"""What one answer is held to, and how it is read: told from its request and from its prompt."""

from collections.abc import Collection
from typing import Any

from hugging_llama.engine.grammars.answers import CallContext, answer_grammar
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.grammars.parameters import tool_schemas
from hugging_llama.engine.grammars.thinking import ThinkingGate
from hugging_llama.engine.output import AnswerProcessor
from hugging_llama.engine.prompt import RenderedPrompt
from hugging_llama.engine.response_template import ResponseReader
from hugging_llama.errors import GrammarError, InvalidRequestError
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, ToolChoice
from hugging_llama.parsing.thinking_layout import thinking_layout


def thinking_gate(
    tokenizer: Any, request: GenerateRequest, prompt: RenderedPrompt, *, end_ids: Collection[int]
) -> ThinkingGate | None:
    """What lets reasoning through before an answer, and bounds it; None where neither is needed."""
    budget = request.sampling.max_thinking_tokens
    if budget is not None and prompt.has_channels:
        raise InvalidRequestError("this model's reasoning can't be bounded", param="thinking_budget")
    # Where thinking is off the answer comes at once, unless the prompt opens the thinking all the same.
    thinks = prompt.show_thinking or prompt.inside_thinking
    if prompt.thinking is None or not thinks or (budget is None and not _is_bound(request, prompt)):
        return None
    return ThinkingGate(
        tokenizer,
        prompt.thinking,
        sorted(end_ids),
        inside=prompt.inside_thinking,
        budget=budget,
        layout=thinking_layout(prompt.template, prompt.thinking),
    )


def answer_mask(
    compiler: GrammarCompiler | None, request: GenerateRequest, prompt: RenderedPrompt, gate: ThinkingGate | None
) -> GrammarMask | None:
    """None where the answer is free. `compiler` None: the tokenizer does not allow to enforce anything."""
    if gate is None and not _is_bound(request, prompt):
        return None
    if compiler is None:
        raise GrammarError("this model's tokenizer does not allow to enforce an output format")
    grammar = answer_grammar(
        request.format,
        _call_context(request, prompt),
        special_ids=compiler.special_ids,
        has_channels=prompt.has_channels,
    )
    return GrammarMask(compiler, grammar, gate, end_ids=prompt.end_ids)


def answer_processor(
    tokenizer: Any,
    request: GenerateRequest,
    prompt: RenderedPrompt,
    gate: ThinkingGate | None,
    *,
    hidden_ids: frozenset[int],
) -> AnswerProcessor:
    """What reads the answer. `hidden_ids` as there."""
    return AnswerProcessor(
        tokenizer,
        prompt_ids=prompt.token_ids,
        hidden_ids=hidden_ids,
        stops=request.sampling.stop,
        thinking=prompt.thinking,
        inside_thinking=prompt.inside_thinking,
        show_thinking=prompt.show_thinking,
        tool_syntax=prompt.tool_syntax,
        tool_schemas=tool_schemas(request),
        has_channels=prompt.has_channels,
        reader=_reader(request, prompt),
        is_cut=lambda: gate is not None and gate.was_cut and not gate.is_open,
        one_call=isinstance(request.prompt, ChatPrompt) and not request.prompt.tool_choice.parallel,
    )


def _reader(request: GenerateRequest, prompt: RenderedPrompt) -> ResponseReader | None:
    """None where the answer is not read by the tokenizer's response template: what is enforced is in our own format."""
    choice = request.prompt.tool_choice if isinstance(request.prompt, ChatPrompt) else ToolChoice()
    if prompt.response is None or request.format is not None or choice.mode == "required":
        return None
    takes_calls = prompt.tool_syntax is not None
    if takes_calls and not prompt.response.knows_calls:
        return None
    return ResponseReader(prompt.response, prompt.begun, schemas=tool_schemas(request), takes_calls=takes_calls)


def _is_bound(request: GenerateRequest, prompt: RenderedPrompt) -> bool:
    """Whether a format or a call is enforced."""
    calls = _call_context(request, prompt)
    return request.format is not None or (calls is not None and calls.choice.mode == "required")


def _call_context(request: GenerateRequest, prompt: RenderedPrompt) -> CallContext | None:
    """None where no tool can be called."""
    if not isinstance(request.prompt, ChatPrompt) or prompt.tool_syntax is None:
        return None
    return CallContext(
        format=prompt.tool_syntax,
        template=prompt.template,
        tools=request.prompt.tools,
        choice=request.prompt.tool_choice,
    )
