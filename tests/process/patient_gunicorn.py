"""The real gunicorn configuration, with half of the graceful seconds between the end of a drain and that of the
workers: a machine that stands still for a moment must not cut an answer off."""

from hugging_llama_config import gunicorn

gunicorn._DRAIN_MARGIN_S = 60.0

from hugging_llama_config.gunicorn import *  # noqa: E402, F403
