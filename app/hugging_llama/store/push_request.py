"""What a push is asked for, as it crosses to the child process."""

from dataclasses import dataclass, field

from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import ModelName
from hugging_llama.store.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PushFile:
    """A file of the commit: what lies at the absolute path `source`, or `text`."""

    path: str
    source: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """Which files to push where; `name.revision` is a branch, which is made if need be.

    `private` is for a repository that is new, None for what the Hub's user or organisation has chosen. The Hub may be
    silent for `timeout_s`: putting a file together that came in parts takes it long.
    """

    name: ModelName
    files: tuple[PushFile, ...]
    access: HubAccess
    private: bool | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float = 120.0
