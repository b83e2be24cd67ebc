"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.openai import chat, classify, completions, embeddings, models, rerank

BLUEPRINTS: tuple[Blueprint, ...] = (
    chat.blueprint,
    completions.blueprint,
    embeddings.blueprint,
    rerank.blueprint,
    classify.blueprint,
    models.blueprint,
)
