"""A real model that says what it is told to, so that tests know what comes."""

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import LlamaForCausalLM

from tests.engine.checkpoints import TEMPLATE, byte_tokenizer, make_checkpoint


def make_reciter(folder: Path, *pieces: str, template: str = "") -> Path:
    """A folder with a model that answers a chat with these different texts, a token each, and ends its turn.

    `template` is put in front of a plain one, so that the answer is read as that of its family.
    """
    tokenizer = byte_tokenizer(template=template + TEMPLATE)
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in pieces])
    make_checkpoint(folder, tokenizer, hidden_size=256)
    model = LlamaForCausalLM.from_pretrained(folder)
    (before,) = tokenizer.encode("\n")
    ids = [before, *map(tokenizer.convert_tokens_to_ids, pieces), tokenizer.eos_token_id]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        generator = torch.Generator().manual_seed(1)
        embeddings = torch.randn(model.model.embed_tokens.weight.shape, generator=generator)
        model.model.embed_tokens.weight.copy_(embeddings)
        heads = torch.zeros_like(embeddings)
        for token_id, following in pairwise(ids):
            heads[following] += embeddings[token_id]
        model.lm_head.weight.copy_(heads)
    model.save_pretrained(folder)
    return folder
