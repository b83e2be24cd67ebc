"""Our routes as one blueprint: a part for each dialect with its error pages, and what goes before every view."""

from collections.abc import Callable, Iterable, Mapping

from flask import Blueprint, Response

from hugging_llama.dialects.anthropic import errors as anthropic_errors
from hugging_llama.dialects.ollama import errors as ollama_errors
from hugging_llama.dialects.openai import errors as openai_errors
from hugging_llama.dialects.request_id import name_in_answers
from hugging_llama.web import unknown_paths
from hugging_llama.web.errors import ErrorPages, RenderError
from hugging_llama.web.routes import RouteGroup, Selection

Hook = Callable[[], Response | None]

_RENDER: Mapping[str, RenderError] = {
    "ollama": ollama_errors.error_response,
    "openai": openai_errors.error_response,
    "anthropic": anthropic_errors.error_response,
}


def build(
    name: str,
    selection: Selection,
    *,
    url_prefix: str | None = None,
    hooks: Iterable[Hook] = (),
    answers_unknown_paths: bool = False,
) -> Blueprint:
    """`hooks` are called in order before each view, after whatever the caller adds to the blueprint."""
    hooks = tuple(hooks)
    root = Blueprint(name, __name__, url_prefix=url_prefix)
    # Ollama's stand at the root, as those of the server do, which have its errors or those of the first dialect
    parts = {dialect: Blueprint(dialect, __name__) for dialect in selection.dialects if dialect != "ollama"}
    for group in selection.groups():
        parts.get(group.dialect, root).register_blueprint(_leaf(group, hooks))
    if answers_unknown_paths:
        unknown = _leaf(RouteGroup("paths", "", ()), hooks)
        unknown.record(unknown_paths.add_rule)
        root.register_blueprint(unknown)
    main = "ollama" if "ollama" in selection.dialects else selection.dialects[0]
    ErrorPages(_RENDER[main]).register(root)
    for dialect, part in parts.items():
        ErrorPages(_RENDER[dialect]).register(part)
        if dialect == "anthropic":
            name_in_answers(part, anthropic_errors.REQUEST_ID_HEADER)
        root.register_blueprint(part)
    return root


def _leaf(group: RouteGroup, hooks: Iterable[Hook]) -> Blueprint:
    """One of its own for each blueprint that is built: Flask calls the hooks of a part after those around it."""
    leaf = Blueprint(group.name, __name__)
    for hook in hooks:
        leaf.before_request(hook)
    for route in group.routes:
        leaf.add_url_rule(route.rule, view_func=route.view, **route.options)
    return leaf
