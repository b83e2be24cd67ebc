"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.ollama import chat, embed, generate, ps, pull, root, tags

BLUEPRINTS: tuple[Blueprint, ...] = (
    root.blueprint,
    generate.blueprint,
    chat.blueprint,
    embed.blueprint,
    pull.blueprint,
    tags.blueprint,
    ps.blueprint,
)
