"""Which of our mounts serves the current request: an application may have several, each with settings of its own.

What a mount needs lies in the application's extensions, that of the first one under plain names. The names of another
one end in its own.
"""

from typing import Any

from flask import Flask, current_app, has_request_context, request

_MOUNTS = "hugging_llama_mounts"


def add_mount(app: Flask, blueprint: str) -> str:
    """From now on requests to routes of this blueprint belong to a mount of their own; what its names end in."""
    mounts: dict[str, str] = app.extensions.setdefault(_MOUNTS, {})
    return mounts.setdefault(blueprint, f":{blueprint}" if mounts else "")


def mount_name() -> str:
    """The blueprint that serves the current request, under the name with which it was registered."""
    mounts: dict[str, str] = current_app.extensions.get(_MOUNTS, {})
    found = request.blueprints if has_request_context() else []
    return next((name for name in found if name in mounts), next(iter(mounts), ""))


def mounted(name: str) -> Any:
    """What the current mount has under this name, None if it has nothing; outside of a request the first mount."""
    mounts: dict[str, str] = current_app.extensions.get(_MOUNTS, {})
    return current_app.extensions.get(name + mounts.get(mount_name(), ""))
