"""Model names: what users write, and the repository and revision, or the folder, that they mean."""

import re
from dataclasses import dataclass

from hugging_llama.errors import CloudModelError, InvalidRequestError

DEFAULT_REVISION = "main"
DEFAULT_TAG = "latest"
DEMO_REPO = "hugging-llama/demo"
DEMO_SHORT = "demo"
"""Means the same where nothing else has this name."""

_MAX_PART = 96
_MAX_NAME = 400
_MAX_OWN_NAME = 200
_MAX_PATH = 1000
_SHOWN = 100
_HUB_PREFIX = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/", re.IGNORECASE)
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_REVISION_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOCAL = re.compile(r":local", re.IGNORECASE)
_CLOUD = re.compile(r":(?:[^:/]*-)?cloud", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A repository of the Hub, `org/name` or a single-part `name`, and a branch, tag or commit of it."""

    repo: str
    revision: str = DEFAULT_REVISION

    @property
    def tag(self) -> str:
        """The revision as users see it: the default one is `latest`."""
        return DEFAULT_TAG if self.revision == DEFAULT_REVISION else self.revision

    @property
    def display(self) -> str:
        """The canonical form, always with the tag."""
        return f"{self.repo}:{self.tag}"

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit id rather than a branch or tag."""
        return is_commit(self.revision)


def is_commit(text: str) -> bool:
    """Whether `text` is a full commit id: 40 lower-case hex characters."""
    return _COMMIT.fullmatch(text) is not None


def parse_name(text: str) -> ModelName:
    """`org/name`, `org/name:revision`, `name`, each with or without `hf.co/` in front.

    Only names of the one configured Hub are understood: anything that looks like another host, a path or a URL is
    refused. Ollama's ending `:local` has no meaning here, where all models are local. Raises InvalidRequestError, and
    CloudModelError for its endings `:cloud` and `-cloud`.
    """
    if not text or len(text) > _MAX_NAME:
        raise _invalid(text)
    return _parse_routed(_without_route(text))


def without_hub(text: str) -> str:
    """`text` without the name of the Hub in front of it."""
    return _HUB_PREFIX.sub("", text, count=1) if _HUB_PREFIX.match(text) else text


def _parse_routed(text: str) -> ModelName:
    repo, colon, tag = without_hub(text).partition(":")
    parts = repo.split("/")
    if len(parts) > 2 or not all(_is_part(part) for part in parts):
        raise _invalid(text)
    if len(parts) == 2 and _is_host(parts[0]):
        raise _invalid(text)
    if colon and not _is_revision(tag):
        raise _invalid(text)
    if len(parts) == 1 and "/" in tag:  # host:port/name, not a branch of a single-part name
        raise _invalid(text)
    return ModelName(repo, _revision(tag))


def _without_route(text: str) -> str:
    rest, colon, ending = text.rpartition(":")
    is_local, is_cloud = (mark.fullmatch(colon + ending) for mark in (_LOCAL, _CLOUD))
    if not rest or not (is_local or is_cloud):
        return text
    _, colon, before = rest.rpartition(":")
    if (_CLOUD if is_local else _LOCAL).fullmatch(colon + before):
        raise InvalidRequestError(f'use either :local or :cloud, not both: "{text[:_SHOWN]}"', param="model")
    if is_cloud:
        _parse_routed(text)
        raise CloudModelError(text)
    return rest


def parse_path(text: str) -> str:
    """The absolute path of a model's folder, with or without `:latest`, and with nothing in it that leads elsewhere.

    Whether anything lies there is not looked at. Raises InvalidRequestError.
    """
    path = text.removesuffix(f":{DEFAULT_TAG}")
    parts = path.split("/")[1:]
    is_plain = len(text) <= _MAX_PATH and path.isprintable() and ":" not in path
    if not is_path(text) or not is_plain or any(part in ("", ".", "..") for part in parts):
        raise _invalid(text)
    return path


def is_path(text: str) -> bool:
    """Whether a name is meant as a path on the server's disk."""
    return text.startswith("/")


def check_base(text: str) -> None:
    """Raises InvalidRequestError unless this can name what a model is made from: one of the Hub, or a path."""
    if is_path(text):
        parse_path(text)
    else:
        parse_name(text)


def parse_own_name(text: str) -> ModelName:
    """A name that a user may give to a model: one or two parts and a tag. Raises InvalidRequestError."""
    name = parse_name(text)
    if _HUB_PREFIX.match(text) or not is_own_name(name):
        raise _invalid(text)
    return name


def is_own_name(name: ModelName) -> bool:
    """Whether a model that was named here can have this name: the tag is no path, and all fits into a file's name."""
    return _is_part(name.tag) and len(name.display) <= _MAX_OWN_NAME


def parse_repo(text: str) -> str:
    """A repository id as the Hub or the cache spells it, checked. Raises InvalidRequestError."""
    if ":" in text:  # nothing that follows a colon is looked at
        raise _invalid(text)
    name = parse_name(text)
    if name.repo != text:
        raise _invalid(text)
    return name.repo


def parse_revision(text: str) -> str:
    """A branch, tag or commit; `latest` is the default branch. Raises InvalidRequestError."""
    if not _is_revision(text):
        raise InvalidRequestError("invalid revision", param="revision")
    return _revision(text)


def _revision(tag: str) -> str:
    if not tag or tag.lower() == DEFAULT_TAG:
        return DEFAULT_REVISION
    return tag.lower() if _COMMIT.fullmatch(tag.lower()) else tag


def _is_part(part: str) -> bool:
    # `--` separates the parts in the names of the cache's folders, so the Hub forbids it inside of them.
    return len(part) <= _MAX_PART and _PART.fullmatch(part) is not None and ".." not in part and "--" not in part


def _is_host(part: str) -> bool:
    return part.lower() == "localhost" or _IPV4.fullmatch(part) is not None


def _is_revision(text: str) -> bool:
    return len(text) <= 2 * _MAX_PART and all(
        len(part) <= _MAX_PART and _REVISION_PART.fullmatch(part) is not None and ".." not in part
        for part in text.split("/")
    )


def _invalid(text: str) -> InvalidRequestError:
    # The text itself is not repeated: it may hold control characters, and may be long.
    return InvalidRequestError("invalid model name" if text else "model is required", param="model")
