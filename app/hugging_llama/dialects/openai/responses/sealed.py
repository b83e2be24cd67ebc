"""Reasoning that a client carries from one request to the next, as `encrypted_content`.

Nothing in it is secret, as the client may read the reasoning anyway: the text is encoded so that nobody takes it for
something to show, and marked so that it is told from what another server has encrypted.
"""

import base64
import binascii

_MARK = "hl1."


def seal(text: str) -> str:
    """For the client to send back."""
    return _MARK + base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()


def unseal(value: str) -> str | None:
    """The text again; None for what this server has not made."""
    if not value.startswith(_MARK):
        return None
    try:
        return base64.b64decode(value[len(_MARK) :], altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
