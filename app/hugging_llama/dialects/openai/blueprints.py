"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.openai import audio, chat, completions, embeddings, models
from hugging_llama.dialects.openai.responses import views as responses

BLUEPRINTS: tuple[Blueprint, ...] = (
    chat.blueprint,
    completions.blueprint,
    embeddings.blueprint,
    models.blueprint,
    audio.blueprint,
    responses.blueprint,
)
