"""Connections of HTTP: whom they ask on the way, which certificates they trust, and what is wrong with one."""

import ssl
from urllib.parse import urlsplit

import requests

from hugging_llama_config.exposure import is_loopback

_WRONG_NAME_CODES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def http_session(url: str, ca_bundle: str) -> requests.Session:
    """For requests to one server; `ca_bundle` is a file of certificates that it is trusted by, "" for those of this
    machine. A proxy for the outside world can't reach this machine's loopback, and Ollama's CLI doesn't ask it either.
    """
    session = requests.Session()
    session.trust_env = not is_loopback(urlsplit(url).hostname or "")
    session.verify = ca_bundle or True
    return session


def insecure_text(url: str, error: requests.exceptions.SSLError) -> tuple[str, str]:
    """Why there is no secure connection, and what to do."""
    cause = _certificate_error(error)
    if cause is None:
        return f"no secure connection to {url}: {_innermost(error)}", "does it speak https at this port?"
    if cause.verify_code in _WRONG_NAME_CODES:
        return f"the certificate of {url} is made for another name", "use the name that it is made for"
    return (
        f"the certificate of {url} is not trusted ({cause.verify_message})",
        "set REQUESTS_CA_BUNDLE to a file with it, or with that of who has signed it",
    )


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The one that HTTP libraries have wrapped."""
    inner: object = error
    while isinstance(inner, BaseException):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return inner
        inner = getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
    return None


def _innermost(error: Exception) -> str:
    """The library of TLS says `[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)`."""
    reason = str(getattr(error.args[0], "reason", error) if error.args else error)
    return reason.partition("] ")[2].partition(" (_ssl")[0] or reason[:200]
