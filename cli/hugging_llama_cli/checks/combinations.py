"""The settings: bad ones, unsafe ones, and those that contradict each other."""

import os
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

from hugging_llama_cli.checks.finding import Finding, Subject, ok, problem, warning
from hugging_llama_config.env import DEFAULT
from hugging_llama_config.exposure import ExposureError, check_exposure, is_loopback
from hugging_llama_config.hardware import expected_device
from hugging_llama_config.keys import KeyFileError, read_keys
from hugging_llama_config.settings import Settings

_USUAL_MODELS = 3
_PLACES_OF_A_LOGIN = (DEFAULT, "HF_HOME", "XDG_CACHE_HOME")
"""Where the file of a login is looked for although nobody has named it."""


def check_settings(subject: Subject) -> Iterator[Finding]:
    """What a start here would use."""
    loaded = subject.loaded
    found = [problem(str(error), "'hugging-llama config show' says what is set and where") for error in loaded.errors]
    found += [warning(said, "correct it, or take it away") for said in loaded.warnings]
    found += [*_exposure(subject.settings), *_keys(subject.settings), *_contradictions(subject.settings)]
    found += _readable_secrets(subject)
    yield from found
    if not found:
        named = ", ".join(map(str, loaded.files)) or "no file"
        yield ok(f"settings can be used and go together; {named} is read")


def _exposure(settings: Settings) -> Iterator[Finding]:
    if is_loopback(settings.host):
        if "*" in settings.trusted_proxies:
            yield warning(
                "trusted_proxies is *: every program of this machine may say whom a request is from",
                "name the proxy's address, such as 127.0.0.1",
            )
        return
    try:
        check_exposure(settings, [settings.host])
    except ExposureError as error:
        yield problem(str(error), "or listen on 127.0.0.1, with a proxy in front")
        return
    if settings.insecure_no_auth and not os.path.exists(settings.keys_path):
        yield warning(
            f"everybody who reaches {settings.host} may use this server and change its models",
            "'hugging-llama keys add NAME' makes the first key; then take insecure_no_auth away",
        )
    if "*" in settings.trusted_proxies:
        yield warning(
            "trusted_proxies is * on an address that others reach: callers can forge where they are from",
            "name the addresses of your proxies alone",
        )


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        keys = read_keys(settings.keys_path)
    except FileNotFoundError:
        if "*" in settings.origins:
            yield warning(
                "origins is * and there are no keys: every web page that this machine's user opens can use the server",
                "name the sites, or make keys",
            )
        return
    except KeyFileError as error:
        yield problem(str(error), "restore it, or move it away and make new keys with 'hugging-llama keys add NAME'")
        return
    if not keys:
        yield warning(f"{settings.keys_path} holds no key: nobody comes in", "'hugging-llama keys add NAME'")
    if settings.insecure_no_auth:
        yield warning("insecure_no_auth is set, and there are keys, which are asked for", "take insecure_no_auth away")


def _contradictions(settings: Settings) -> Iterator[Finding]:
    limit = settings.max_loaded_models or _USUAL_MODELS
    if len(settings.preload) > limit:
        yield warning(
            f"{len(settings.preload)} models to preload, and {limit} may be in memory: the first ones leave again",
            f"max_loaded_models = {len(settings.preload)}, or preload fewer",
        )
    if settings.quantize != "none" and expected_device(settings.device) != "cpu":
        yield warning(
            f"quantize = {settings.quantize} has no effect on {expected_device(settings.device)}",
            "it is for the CPU: take it away, or set device = cpu",
        )
    if settings.idle_event_timeout_s < settings.max_step_s:
        yield warning("idle_event_timeout_s is shorter than a step (max_step_s)", "streams would be cut: raise it")
    if settings.hub_endpoint and urlsplit(settings.hub_endpoint).scheme not in ("http", "https"):
        yield problem("hub_endpoint is no http:// or https:// address", "write it whole: https://huggingface.co")
    if settings.stored_responses_bytes and settings.max_body_bytes > settings.stored_responses_bytes:
        yield warning(
            "max_body_bytes is more than stored_responses_bytes: a conversation may be too large to be kept",
            "raise stored_responses_bytes",
        )


def _readable_secrets(subject: Subject) -> Iterator[Finding]:
    """Files with secrets that other users can read."""
    origin = subject.loaded.origins.get("hub_token", "")
    login = subject.settings.hub_token_file
    for path in {subject.settings.keys_path, origin if origin.startswith("/") else login} - {""}:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            named_by = subject.loaded.origins["hub_token_file"]
            if path == login and named_by not in _PLACES_OF_A_LOGIN:
                yield warning(
                    f"{named_by}: {path} can't be read: {error.strerror}", "there is no token until it can be"
                )
            continue
        if mode & stat.S_IROTH:
            yield warning(f"{path} holds secrets and can be read by everybody on this machine", f"chmod o-r {path}")
