"""The application with callers hooked in, as a gateway in front of it would: by a header that names them."""

from dataclasses import replace

from flask import request

from hugging_llama import create_app
from hugging_llama.dialects.base import EXTENSION
from hugging_llama.neutral.callers import Caller

app = create_app()
app.extensions[EXTENSION] = replace(
    app.extensions[EXTENSION],
    caller=lambda: Caller(request.headers.get("X-Test-Caller", ""), int(request.headers.get("X-Test-Priority", "0"))),
)
