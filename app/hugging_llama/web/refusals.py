"""Who was not let do something to the models: a line of the audit log, as of what was done."""

from flask import current_app, request

from hugging_llama.dialects.base import app_context
from hugging_llama.dialects.documented import operation_of
from hugging_llama.errors import ForbiddenError, HuggingLlamaError, KeyRejectedError
from hugging_llama.operations.audit import audit_text
from hugging_llama.operations.audit_log import Action
from hugging_llama.web.access import REALM, current_key
from hugging_llama.web.limits import Bucket, bucket_path
from hugging_llama.web.visitors import file_name

LINES_PER_MINUTE = 60
"""For each key, and for all without one: whoever is let in nowhere must not be able to fill a disk."""


def write_refusal(error: HuggingLlamaError) -> None:
    """Of the current request, if it was for a route whose action is audited and `error` says that we refuse it. The
    body is not read for this: a model is named where a key's patterns refuse it."""
    operation = operation_of(current_app.view_functions.get(request.endpoint or "", write_refusal))
    if operation is None or not operation.audited or not _is_refusal(error):
        return
    ctx = app_context()
    if ctx.audit is None:
        return
    key = current_key()
    path = bucket_path(ctx.settings.run_dir, "refused-" + file_name(key.id if key else ""), "lines")
    if Bucket(path, LINES_PER_MINUTE if ctx.settings.run_dir else 0).take(1, at_least=1):
        return
    named = {"model": error.facts.get("model"), "digest": (request.view_args or {}).get("digest")}
    told = {fact: audit_text(value) for fact, value in named.items() if value is not None}
    Action(ctx.audit, ctx.audit.actor(), {"action": operation.audited, **told}).end(error.code)


def _is_refusal(error: HuggingLlamaError) -> bool:
    """By us: the Hub rejects keys, too, and that is how an action ends."""
    if isinstance(error, KeyRejectedError):
        return bool(error.facts.get("realm", REALM) == REALM)
    return isinstance(error, ForbiddenError)
