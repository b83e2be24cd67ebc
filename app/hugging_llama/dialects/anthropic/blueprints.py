"""All blueprints of this dialect."""

from flask import Blueprint

from hugging_llama.dialects.anthropic import create

BLUEPRINTS: tuple[Blueprint, ...] = (create.blueprint,)
