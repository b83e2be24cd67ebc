"""Who may come in, and what for: keys, roles, models and limits, in front of every route of ours."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from flask import Blueprint, Response, current_app, has_request_context, request

from hugging_llama.dialects.caller import named_user
from hugging_llama.dialects.documented import Role, operation_of
from hugging_llama.dialects.mounts import mount_name
from hugging_llama.dialects.request_facts import request_facts
from hugging_llama.errors import ForbiddenError, KeyRejectedError, RateLimitedError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.web.keys import KeyRing
from hugging_llama.web.limits import Bucket, bucket_path
from hugging_llama.web.model_patterns import covers
from hugging_llama.web.visitors import Authenticate, Visitor, as_visitor, file_name
from hugging_llama_config.keys import Key
from hugging_llama_config.settings import Settings

_KEY = "hugging_llama.key"
REALM = "hugging-llama"
"""Whose key was wrong; others, such as the Hub's token, have realms of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorkeeper(ABC):
    """Checks who sends each request against what its route asks for."""

    word: ClassVar[str] = "key"
    run_dir: str

    @abstractmethod
    def find(self, role: Role) -> Key | Visitor | None:
        """Who sends the current request, None where a route with this role is open to everybody. Raises
        KeyRejectedError."""

    def install(self, blueprint: Blueprint) -> None:
        """Before every view of the blueprint and of those in it."""
        blueprint.before_request(self.check)
        blueprint.after_request(self.mark)

    def check(self) -> None:
        """Raises KeyRejectedError, ForbiddenError or RateLimitedError."""
        operation = operation_of(current_app.view_functions[request.endpoint or ""])
        role = operation.role if operation else "admin"
        key = self.find(role)
        if key is None:
            return
        facts = request_facts()
        facts.key_id, facts.key_name = key.id, key.name
        # not in `g`, which several requests share in an application that pushes a context around them; before refusals,
        # which tell its limits
        request.environ[_KEY] = key
        if role is not None:
            if role not in key.roles and "admin" not in key.roles:
                raise ForbiddenError(f"this {self.word} may not do this: it has no role {role!r}", role=role)
            self._limit(key)
        if key.tokens_per_minute:
            facts.spend = self._tokens(key).spend

    def mark(self, response: Response) -> Response:
        """The caller's limits, as OpenAI's clients read them, whatever the answer."""
        key = current_key()
        if key is not None and key.requests_per_minute:
            response.headers["x-ratelimit-limit-requests"] = str(key.requests_per_minute)
        if key is not None and key.tokens_per_minute:
            response.headers["x-ratelimit-limit-tokens"] = str(key.tokens_per_minute)
        if response.status_code == 401:
            response.headers.setdefault("WWW-Authenticate", f'Bearer realm="{REALM}"')
        return response

    def _limit(self, key: Key | Visitor) -> None:
        requests = self._bucket(key, "requests", key.requests_per_minute)
        # what is refused for its tokens is no request
        for bucket, amount, kind in ((self._tokens(key), 0, "tokens"), (requests, 1, "requests")):
            if wait_s := bucket.take(amount, at_least=1):
                raise RateLimitedError(f"too many {kind} a minute with this {self.word}", retry_after_s=wait_s)

    def may_name(self, model: str) -> bool:
        """By the patterns of the caller's key."""
        key = current_key()
        if key is None or not key.models or "admin" in key.roles:
            return True
        return covers(key.models, model)

    def _tokens(self, key: Key | Visitor) -> Bucket:
        return self._bucket(key, "tokens", key.tokens_per_minute)

    def _bucket(self, key: Key | Visitor, kind: str, per_minute: int) -> Bucket:
        return Bucket(bucket_path(self.run_dir, self.bucket_name(key), kind) if per_minute > 0 else "", per_minute)

    def bucket_name(self, key: Key | Visitor) -> str:
        """What the limits of this caller are kept under."""
        return key.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatekeeper(Doorkeeper):
    """By the keys of a file."""

    ring: KeyRing

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(run_dir=settings.run_dir, ring=KeyRing(settings.keys_path, is_required=bool(settings.keys_file)))

    def find(self, role: Role) -> Key | None:
        if role is None or self.ring.is_open:
            return None
        key = self.ring.find(given_key())
        if key is None:
            raise KeyRejectedError("a valid API key is needed", realm=REALM)
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDoorkeeper(Doorkeeper):
    """Of a mount: by the hook of the application around us, which is asked for every route, open ones included."""

    word: ClassVar[str] = "caller"
    authenticate: Authenticate

    def find(self, role: Role) -> Visitor:
        visitor = as_visitor(current_app.ensure_sync(self.authenticate)())
        if visitor is None:
            raise KeyRejectedError("authentication is required", realm=REALM)
        return visitor

    def bucket_name(self, key: Key | Visitor) -> str:
        """Other applications of this user may name theirs alike."""
        return "visitor-" + file_name(current_app.import_name, mount_name(), key.id)


def given_key() -> str:
    """The secret in the request's headers, "" if there is none."""
    if found := request.headers.get("x-api-key", ""):
        return found
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def current_key() -> Key | Visitor | None:
    """The key of the current request, None on a server without keys."""
    found = request.environ.get(_KEY)
    return found if isinstance(found, Key | Visitor) else None


def caller(trusted: Collection[str]) -> Caller:
    """Between whom the engine takes turns: those of one key are one caller, but for the users whom a `trusted` address
    sends requests for, each of whom is one."""
    if not has_request_context():
        return ANONYMOUS
    key, user = current_key(), named_user(trusted)
    known = Caller(key.id, key.priority, key.tokens_per_minute > 0) if key else ANONYMOUS
    return replace(known, id=f"{known.id or 'anonymous'}/{user}") if user else known
