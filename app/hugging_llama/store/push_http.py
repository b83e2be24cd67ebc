"""huggingface_hub's HTTP client under our rules: time-outs, no token and no request where neither belongs."""

import urllib.parse
from typing import Any

from huggingface_hub import get_session, set_client_factory

from hugging_llama.errors import TransferError
from hugging_llama.store.hub_http import MAX_JSON_BYTES, HubAccess, is_inside


def install(access: HubAccess, timeout_s: float) -> None:
    """From now on every request of huggingface_hub in this process ends after `timeout_s` without a byte.

    The token goes to the Hub alone. The addresses for uploads that a Hub names are as suspect as its redirects: from
    https they may not lead to http, from outside not into this network. Replies must come unpacked, and announce no
    more than MAX_JSON_BYTES. Breaking a rule raises TransferError.
    """
    usual = get_session()
    # httpx in some versions of the library, httpx2 in others
    client_class: Any = type(usual)
    rules = _Rules(access)
    hooks = {
        kind: [*(hook for hook in before if not isinstance(getattr(hook, "__self__", None), _Rules)), ours]
        for kind, before, ours in (
            ("request", usual.event_hooks["request"], rules.check_request),
            ("response", usual.event_hooks["response"], rules.check_response),
        )
    }
    set_client_factory(lambda: client_class(event_hooks=hooks, follow_redirects=True, timeout=timeout_s))


class _Rules:
    """Hooks that see every request, those that follow a redirect, too, and every reply before its body."""

    def __init__(self, access: HubAccess) -> None:
        self._hub = urllib.parse.urlsplit(access.endpoint)

    def check_request(self, request: Any) -> None:
        request.headers["Accept-Encoding"] = "identity"
        target = urllib.parse.urlsplit(str(request.url))
        if _origin(target) == _origin(self._hub):
            return
        request.headers.pop("Authorization", None)
        if self._hub.scheme == "https" and target.scheme != "https":
            raise TransferError("the Hub leads from https to http", cause="redirect")
        if is_inside(target.hostname or "") and not is_inside(self._hub.hostname or ""):
            raise TransferError("the Hub leads to an address inside of this network", cause="redirect")

    def check_response(self, response: Any) -> None:
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise TransferError("a reply of the Hub is packed, though that was not asked for", cause="encoding")
        length = response.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_JSON_BYTES:
            raise TransferError("a reply of the Hub is too big", cause="reply too big")


def _origin(url: urllib.parse.SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
