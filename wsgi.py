"""The WSGI entry point: `gunicorn -c python:hugging_llama_config.gunicorn wsgi:app`."""

from hugging_llama import create_app

app = create_app()
