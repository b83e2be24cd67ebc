"""Hugging Llama: Ollama's API over Hugging Face models.

The names below are loaded on first use, so that the engine process can import this package without Flask.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hugging_llama.web.app import create_app as create_app
    from hugging_llama.web.app import create_blueprint as create_blueprint

__all__ = ["__version__", "create_app", "create_blueprint"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in {"create_app", "create_blueprint"}:
        import hugging_llama.web.app as web_app

        return getattr(web_app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
