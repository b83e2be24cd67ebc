"""Who may come in, and what for: keys, roles, models and limits, in front of every route of ours."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flask import Blueprint, Response, current_app, g, has_request_context, request

from hugging_llama.dialects.documented import operation_of
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.errors import ForbiddenError, KeyRejectedError, RateLimitedError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.web.keys import KeyRing
from hugging_llama.web.limits import Bucket, bucket_path
from hugging_llama_config.keys import Key

_KEY = "hugging_llama_key"
REALM = "hugging-llama"
"""Whose key was wrong; others, such as the Hub's token, have realms of their own."""


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Checks the key of each request against what its route asks for."""

    ring: KeyRing
    run_dir: str

    def install(self, blueprint: Blueprint) -> None:
        """Before every view of the blueprint and of those in it."""
        blueprint.before_request(self.check)
        blueprint.after_request(self.mark)

    def check(self) -> None:
        """Raises KeyRejectedError, ForbiddenError or RateLimitedError."""
        operation = operation_of(current_app.view_functions[request.endpoint or ""])
        role = operation.role if operation else "admin"
        if role is None or self.ring.is_open:
            return
        key = self.ring.find(given_key())
        if key is None:
            raise KeyRejectedError("a valid API key is needed", realm=REALM)
        facts = request_facts()
        facts.key_id, facts.key_name = key.id, key.name
        if role not in key.roles and "admin" not in key.roles:
            raise ForbiddenError(f"this key may not do this: it has no role {role!r}", role=role)
        self._limit(key)
        setattr(g, _KEY, key)

    def mark(self, response: Response) -> Response:
        """What is left to a caller, as OpenAI's clients read it."""
        key = current_key()
        if key is not None and key.requests_per_minute:
            response.headers["x-ratelimit-limit-requests"] = str(key.requests_per_minute)
        if key is not None and key.tokens_per_minute:
            response.headers["x-ratelimit-limit-tokens"] = str(key.tokens_per_minute)
        if response.status_code == 401:
            response.headers.setdefault("WWW-Authenticate", f'Bearer realm="{REALM}"')
        return response

    def _limit(self, key: Key) -> None:
        wait_s = self._tokens(key).take(0, at_least=1)
        wait_s = wait_s or self._bucket(key, "requests", key.requests_per_minute).take(1, at_least=1)
        if wait_s:
            raise RateLimitedError("too many requests a minute with this key", retry_after_s=wait_s)

    def may_name(self, model: str) -> bool:
        """By the patterns of the caller's key, with or without the tag `latest`, in any case."""
        key = current_key()
        if key is None or not key.models or "admin" in key.roles:
            return True
        names = (model.lower(), model.lower().removesuffix(":latest"))
        return any(fnmatchcase(name, pattern.lower()) for pattern in key.models for name in names)

    def meter(self) -> Callable[[int], None] | None:
        """Takes tokens from what the caller's key may still read and write."""
        key = current_key()
        if key is None or not key.tokens_per_minute:
            return None
        tokens = self._tokens(key)
        return tokens.spend

    def _tokens(self, key: Key) -> Bucket:
        return self._bucket(key, "tokens", key.tokens_per_minute)

    def _bucket(self, key: Key, kind: str, per_minute: int) -> Bucket:
        return Bucket(bucket_path(self.run_dir, key.id, kind) if per_minute > 0 else "", per_minute)


def given_key() -> str:
    """The secret in the request's headers, "" if there is none."""
    if found := request.headers.get("x-api-key", ""):
        return found
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def current_key() -> Key | None:
    """The key of the current request, None on a server without keys."""
    found = g.get(_KEY)
    return found if isinstance(found, Key) else None


def caller() -> Caller:
    """Between whom the engine takes turns: those of one key are one caller."""
    key = current_key() if has_request_context() else None
    return Caller(key.id, key.priority) if key else ANONYMOUS
