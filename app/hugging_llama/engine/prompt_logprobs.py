"""Log-probabilities of a prompt's own tokens, told as the prompt is computed."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.logprobs import RawLogprob, raw_logprobs
from hugging_llama.engine.model_runner import accepts
from hugging_llama.engine.scheduler import MAX_SCORED_TOKENS
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import InvalidLogitsError
from hugging_llama.neutral.events import PromptLogprobs

# rows that are looked at in float32 at once
_BLOCK = 32


@torch.inference_mode()
def told_prompt(sequence: Sequence, logits: Tensor) -> PromptLogprobs:
    """What `logits` `[n, vocab_size]` tell of the prompt, the first row being that of `first_untold_position`.

    A row behind the last that does is left alone. Raises InvalidLogitsError.
    """
    assert sequence.prompt_logprobs is not None
    assert sequence.token_bytes is not None
    position = sequence.first_untold_position
    token_ids = sequence.prompt_token_ids[position + 1 : position + 1 + len(logits)]
    found: list[RawLogprob] = []
    for start in range(0, len(token_ids), _BLOCK):
        chosen = token_ids[start : start + _BLOCK]
        rows = logits[start : start + len(chosen)].float()
        # a row's best is NaN if anything in it is
        if not torch.isfinite(rows.amax(dim=-1)).all():
            raise InvalidLogitsError("the model computed logits that are not numbers")
        found += raw_logprobs(rows, chosen, [sequence.prompt_logprobs] * len(chosen))
    first = None if sequence.num_told_tokens else sequence.token_bytes(sequence.prompt_token_ids[0])
    return PromptLogprobs(tuple(entry.entry(sequence.token_bytes) for entry in found), first)


def prompt_logits(model: PreTrainedModel, token_ids: list[int]) -> Iterator[Tensor]:
    """The logits of all places of a prompt, `[n, vocab_size]` at a time, by plain forwards of the model.

    One for each part, if it makes logits of a part alone: they would take more memory than all the rest.
    """
    ids = torch.tensor([token_ids], device=model.device)
    if not accepts(model, "logits_to_keep"):
        yield model(input_ids=ids, use_cache=False, return_dict=True).logits[0]
        return
    for start in range(0, len(token_ids), MAX_SCORED_TOKENS):
        kept = torch.arange(start, min(start + MAX_SCORED_TOKENS, len(token_ids)), device=model.device)
        yield model(input_ids=ids, use_cache=False, return_dict=True, logits_to_keep=kept).logits[0]
