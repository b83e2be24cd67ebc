"""Generate: check what the model can do, merge its own defaults, ask the engine."""

from dataclasses import replace

from hugging_llama.errors import UnsupportedCapabilityError
from hugging_llama.neutral.events import EventStream, GenerateEvent
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import ChatPrompt, GenerateCall, GenerateRequest, SamplingParams, TextPrompt
from hugging_llama.operations.context import AppContext
from hugging_llama.store.defaults import sampling_defaults


def require(model: LocalModel, name: str, *capabilities: Capability) -> None:
    """Raise UnsupportedCapabilityError, with the name as the caller wrote it, if the model lacks any of these."""
    missing = [capability.value for capability in capabilities if capability not in model.capabilities]
    if missing:
        raise UnsupportedCapabilityError(name, missing)


def require_for(model: LocalModel, name: str, prompt: ChatPrompt | TextPrompt) -> None:
    """Raise UnsupportedCapabilityError if the model lacks what the prompt asks for, be it generated or only loaded."""
    if isinstance(prompt, ChatPrompt) and prompt.tools:
        require(model, name, Capability.TOOLS)
    if isinstance(prompt, ChatPrompt) and prompt.think:
        require(model, name, Capability.THINKING)


def generate(ctx: AppContext, model: LocalModel, name: str, call: GenerateCall) -> EventStream[GenerateEvent]:
    """Start one generation.

    Options win over the defaults of a named model, these over the model's generation_config.json, that over Ollama's
    defaults. Raises UnsupportedCapabilityError; whatever the engine refuses is raised by the stream.
    """
    require_for(model, name, call.prompt)
    defaults = model.defaults
    sampling = {**sampling_defaults(model.ref.path), **defaults.sampling, **call.options}
    request = GenerateRequest(
        model=model.ref,
        prompt=_with_system(call.prompt, defaults.system),
        sampling=SamplingParams(**sampling),
        format=call.format,
        context_length=call.context_length or defaults.context_length,
        keep_alive_s=call.keep_alive_s,
        truncate=call.truncate,
        shift=call.shift,
        return_context=call.return_context,
    )
    return ctx.observer.observe(ctx.engine.generate(request))


def _with_system(prompt: ChatPrompt | TextPrompt, system: str) -> ChatPrompt | TextPrompt:
    """The system text of the model in front of a chat that has none; `context` holds that of an earlier turn."""
    if not system or isinstance(prompt, TextPrompt) or prompt.context:
        return prompt
    if any(message.role == "system" for message in prompt.messages):
        return prompt
    return replace(prompt, messages=(Message(role="system", content=system), *prompt.messages))
