"""Patterns of model names: a name in any spelling that the server takes, or one with `*`, `?` and `[…]`."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from hugging_llama.errors import CloudModelError, InvalidRequestError
from hugging_llama.store.names import DEFAULT_REVISION, DEFAULT_TAG, is_path, parse_name, without_hub


def covers(patterns: Iterable[str], name: str) -> bool:
    """Whether one of these stands for the model of this full name (`operations.models.full_name`).

    Names of the Hub are the same in any case of letters, with `latest`, with `main` and without a tag; paths are not.
    """
    if is_path(name):
        forms = (name, name.removesuffix(f":{DEFAULT_TAG}"))
        return any(fnmatchcase(form, pattern) for pattern in patterns for form in forms)
    full = _with_tag(name.lower())
    forms = (full, full.removesuffix(f":{DEFAULT_TAG}"))
    return any(fnmatchcase(form, _plain(pattern)) for pattern in patterns for form in forms)


def _plain(pattern: str) -> str:
    try:
        return _with_tag(parse_name(pattern).display.lower())
    except (InvalidRequestError, CloudModelError):  # no name: it stands for several, or for none
        text = without_hub(pattern).lower()
        return _with_tag(text) if ":" in text else text


def _with_tag(text: str) -> str:
    repo, _, tag = text.partition(":")
    return f"{repo}:{DEFAULT_TAG if tag in ('', DEFAULT_REVISION) else tag}"
