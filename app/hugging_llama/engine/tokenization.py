"""Token ids on request: exactly those that a generation or an embedding would compute."""

import sys

from hugging_llama.engine.pooling_tokens import PoolingTokenizer
from hugging_llama.engine.prompt import PromptRenderer
from hugging_llama.errors import UnsupportedCapabilityError
from hugging_llama.neutral.events import Tokenized
from hugging_llama.neutral.requests import GenerateRequest, TextPrompt, TokenizeRequest


def tokenized(source: PromptRenderer | PoolingTokenizer, request: TokenizeRequest, *, load_ns: int) -> Tokenized:
    """The ids of the whole prompt, however long. Raises a RequestError for what the caller must change."""
    ids = _prompt_ids(source, request)
    text = source.decode(ids) if request.return_text else ""
    return Tokenized(token_ids=tuple(ids), text=text, load_ns=load_ns)


def _prompt_ids(source: PromptRenderer | PoolingTokenizer, request: TokenizeRequest) -> list[int]:
    prompt = request.prompt
    if isinstance(source, PoolingTokenizer):
        if not isinstance(prompt, TextPrompt):
            raise UnsupportedCapabilityError(request.model.name, ["completion"])
        return source.ids(prompt.text, add_special_tokens=request.add_special_tokens)
    if isinstance(prompt, TextPrompt) and not request.add_special_tokens:
        return source.encode(prompt.text)
    generation = GenerateRequest(model=request.model, prompt=prompt)
    return source.render(generation, context_length=sys.maxsize).token_ids
