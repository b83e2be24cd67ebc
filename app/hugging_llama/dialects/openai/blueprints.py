"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.openai import audio, chat, classify, completions, embeddings, models, rerank
from hugging_llama.dialects.openai.responses import views as responses

BLUEPRINTS: tuple[Blueprint, ...] = (
    chat.blueprint,
    completions.blueprint,
    embeddings.blueprint,
    rerank.blueprint,
    classify.blueprint,
    models.blueprint,
    audio.blueprint,
    responses.blueprint,
)
