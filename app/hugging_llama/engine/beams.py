"""What beam search can be combined with."""

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.requests import GenerateRequest


def refuse_beams(request: GenerateRequest) -> None:
    """Raises InvalidRequestError if the request asks for beam search together with what has one text only."""
    sampling = request.sampling
    if sampling.num_beams <= 1:
        return
    if request.format is not None:
        raise InvalidRequestError("num_beams can't be combined with format", param="num_beams")
    if sampling.top_logprobs is not None:
        raise InvalidRequestError("num_beams can't be combined with logprobs", param="num_beams")
    if request.prompt_logprobs is not None:
        raise InvalidRequestError("num_beams can't be combined with prompt_logprobs", param="num_beams")
