"""Generate: check what the model can do, merge its own defaults, ask the engine."""

from dataclasses import replace

from hugging_llama.errors import ModelLoadError, UnsupportedCapabilityError
from hugging_llama.neutral.events import AnswerStream
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import Capability, LocalModel, RequestDefaults
from hugging_llama.neutral.requests import (
    ChatPrompt,
    GenerateCall,
    GenerateRequest,
    InsertPrompt,
    Prompt,
    SamplingParams,
    TextPrompt,
    TokensPrompt,
)
from hugging_llama.operations.context import AppContext
from hugging_llama.store.capabilities import with_template
from hugging_llama.store.defaults import sampling_defaults
from hugging_llama.store.details import UNKNOWN


def require(model: LocalModel, name: str, *capabilities: Capability) -> None:
    """Raise UnsupportedCapabilityError, with the name as the caller wrote it, if the model lacks any of these;
    ModelLoadError where nothing tells what it can do."""
    if not model.capabilities and model.details.family == UNKNOWN:
        raise ModelLoadError("the model's config.json is damaged, or names no kind of model")
    missing = [capability.value for capability in capabilities if capability not in model.capabilities]
    if missing:
        raise UnsupportedCapabilityError(name, missing, canonical=model.ref.name)


def require_for(model: LocalModel, name: str, prompt: Prompt) -> None:
    """Raise UnsupportedCapabilityError if the model lacks what the prompt asks for, be it generated or only loaded.

    A template that comes with the prompt decides like one of the model.
    """
    if isinstance(prompt, TextPrompt | TokensPrompt):
        return
    model = replace(model, capabilities=with_template(model.capabilities, prompt.template))
    if isinstance(prompt, InsertPrompt):
        require(model, name, Capability.INSERT)
        return
    if prompt.tools:
        require(model, name, Capability.TOOLS)
    if prompt.think:
        require(model, name, Capability.THINKING)


def generate(
    ctx: AppContext, model: LocalModel, name: str, call: GenerateCall, *, shares_prompt: bool = False
) -> AnswerStream:
    """Start one generation; `shares_prompt`: it is not the first one of its prompt.

    Options win over the defaults of a named model, these over the model's generation_config.json, that over Ollama's
    defaults. Raises UnsupportedCapabilityError; whatever the engine refuses is raised by the stream.
    """
    require_for(model, name, call.prompt)
    if "max_thinking_tokens" in call.options and isinstance(call.prompt, ChatPrompt):
        require_for(model, name, replace(call.prompt, think=True))
    defaults = model.defaults
    sampling = {**sampling_defaults(model.ref.path), **defaults.sampling, **call.options}
    caller = ctx.caller()
    request = GenerateRequest(
        model=model.ref,
        prompt=with_defaults(call.prompt, defaults),
        sampling=SamplingParams(**sampling),
        format=call.format,
        context_length=call.context_length or defaults.context_length,
        keep_alive_s=call.keep_alive_s,
        truncate=call.truncate,
        shift=call.shift,
        return_context=call.return_context,
        tells_start=call.tells_start or caller.is_metered,
        tells_progress=call.tells_progress,
        prompt_logprobs=call.prompt_logprobs,
        caller=caller,
    )
    return ctx.observer.generation(ctx.engine.generate(request), model.ref.name, shares_prompt=shares_prompt)


def with_defaults(prompt: Prompt, defaults: RequestDefaults) -> Prompt:
    """The prompt with what the model says where the request says nothing.

    In front come a system text, the request's own if it begins with one, then the model's turns, then the request's.
    `context` holds both of an earlier turn.
    """
    if isinstance(prompt, TextPrompt | TokensPrompt):
        return prompt
    if isinstance(prompt, InsertPrompt):
        return replace(prompt, template=prompt.template or defaults.template)
    messages = prompt.messages
    if not prompt.context:
        has_system = bool(messages) and messages[0].role == "system"
        own = (Message(role="system", content=defaults.system),) if defaults.system else ()
        system, turns = (messages[:1], messages[1:]) if has_system else (own, messages)
        messages = (*system, *defaults.messages, *turns)
    return replace(prompt, messages=messages, template=prompt.template or defaults.template)
