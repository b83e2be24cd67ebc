"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.anthropic import count_tokens, create

BLUEPRINTS: tuple[Blueprint, ...] = (create.blueprint, count_tokens.blueprint)
