"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.ollama import (
    account,
    blobs,
    chat,
    copy,
    create,
    delete,
    detokenize,
    embed,
    embeddings,
    generate,
    ps,
    pull,
    push,
    rerank,
    root,
    show,
    tags,
    tokenize,
)

BLUEPRINTS: tuple[Blueprint, ...] = (
    root.blueprint,
    generate.blueprint,
    chat.blueprint,
    embed.blueprint,
    embeddings.blueprint,
    rerank.blueprint,
    tokenize.blueprint,
    detokenize.blueprint,
    pull.blueprint,
    blobs.blueprint,
    push.blueprint,
    create.blueprint,
    copy.blueprint,
    delete.blueprint,
    show.blueprint,
    tags.blueprint,
    ps.blueprint,
    account.blueprint,
)
