"""Text to token ids and back, exactly as the model's own tokenizer and template do it."""

from collections.abc import Sequence

from hugging_llama.neutral.events import Detokenized, EventStream, Tokenized
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import DetokenizeRequest, Prompt, TextPrompt, TokenizeRequest
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.generation import require, require_for, with_defaults


def tokenize(
    ctx: AppContext,
    model: LocalModel,
    name: str,
    prompt: Prompt,
    *,
    add_special_tokens: bool = True,
    return_text: bool = False,
    keep_alive_s: float | None = None,
) -> EventStream[Tokenized]:
    """The ids of a prompt, whole, however long it is; with `return_text` what they say as well.

    A text may be for any model, be it one that embeds. Raises UnsupportedCapabilityError before anything is loaded;
    what the engine refuses is raised by the stream.
    """
    if not isinstance(prompt, TextPrompt):
        require(model, name, Capability.COMPLETION)
        require_for(model, name, prompt)
    request = TokenizeRequest(
        model=model.ref,
        prompt=with_defaults(prompt, model.defaults),
        add_special_tokens=add_special_tokens,
        return_text=return_text,
        context_length=model.defaults.context_length,
        keep_alive_s=keep_alive_s,
        caller=ctx.caller(),
    )
    return ctx.engine.tokenize(request)


def detokenize(
    ctx: AppContext, model: LocalModel, token_ids: Sequence[int], *, keep_alive_s: float | None = None
) -> EventStream[Detokenized]:
    """The text that ids stand for, special tokens spelt out; ids that the model lacks are refused by the stream."""
    request = DetokenizeRequest(
        model=model.ref,
        token_ids=tuple(token_ids),
        context_length=model.defaults.context_length,
        keep_alive_s=keep_alive_s,
        caller=ctx.caller(),
    )
    return ctx.engine.detokenize(request)
