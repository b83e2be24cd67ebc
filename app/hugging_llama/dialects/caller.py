"""Who sends the current request, as far as we know: the name of a key, an address, a user of who sends for many."""

import hashlib
import ipaddress
import re
from collections.abc import Collection

from flask import has_request_context, request

from hugging_llama.dialects.base import app_context
from hugging_llama.dialects.request_id import request_id
from hugging_llama.operations.audit_log import Actor
from hugging_llama_config.redaction import redacted

USER_HEADER = "X-OpenWebUI-User-Id"
UNKNOWN = "unknown"
"""In the place of an address that a proxy names and nobody can read: some client, and none whom we trust."""
_USER = re.compile(r"[!-~]{1,100}")
_WITH_PORT = re.compile(r"\[([^]]+)\](?::[0-9]+)?|([^:]+):[0-9]+")
_SERVER = Actor(who="server", address="", request_id="")


def caller_address(trusted: Collection[str]) -> str:
    """The client's address: what the connection says, or, behind `trusted` proxies, the last one that they name and
    that is none of them, UNKNOWN if that is no address, or one with a zone of its own machine, which may be any text.
    "" where the server tells none."""
    address = str(request.environ.get("REMOTE_ADDR", ""))
    header = request.headers.get("X-Forwarded-For", "")
    named = header.split(",") if header.strip() else []
    while named and _is_among(address, trusted):
        found = _bare(named.pop())
        address = UNKNOWN if "%" in found or _parsed(found) is None else found
    return address


def _bare(named: str) -> str:
    """Without the quotes, the brackets and the port that some proxies write."""
    text = named.strip().removeprefix('"').removesuffix('"')
    found = _WITH_PORT.fullmatch(text)
    return (found[1] or found[2]) if found else text


def named_user(trusted: Collection[str]) -> str:
    """The user for whom an Open WebUI sends the request, "" if it names none or is none of the `trusted`. Of an id that
    fits in no log there is a hash: nobody may become nobody by an odd one.

    Proxies in between are trusted, too, and pass on what any client of theirs has written: so the request must come
    from a trusted address first of all.
    """
    name = request.headers.get(USER_HEADER, "")
    if not name or not _is_among(caller_address(trusted), trusted):
        return ""
    return name if _USER.fullmatch(name) else f"sha256:{hashlib.sha256(name.encode('latin-1')).hexdigest()}"


def actor(trusted: Collection[str]) -> Actor:
    """Who acts: the caller of the current request; the server itself outside of one."""
    if not has_request_context():
        return _SERVER
    who = redacted(app_context().caller().id) or "anonymous"
    return Actor(who=who, address=caller_address(trusted), request_id=redacted(request_id()))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parsed(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_among(text: str, networks: Collection[str]) -> bool:
    address = _parsed(text)
    return any(
        network == "*" or (address is not None and address in ipaddress.ip_network(network)) for network in networks
    )
