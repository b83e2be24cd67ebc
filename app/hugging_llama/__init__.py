"""Hugging Llama: Ollama's API over Hugging Face models.

The names below are loaded on first use, so that the engine process can import this package without Flask.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hugging_llama.web.app import create_app as create_app
    from hugging_llama.web.mount import create_blueprint as create_blueprint
    from hugging_llama.web.visitors import Visitor as Visitor

__all__ = ["Visitor", "__version__", "create_app", "create_blueprint"]

__version__ = "0.1.0"


_HOMES = {"create_app": "app", "create_blueprint": "mount", "Visitor": "visitors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"hugging_llama.web.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
