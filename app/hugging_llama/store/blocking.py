"""Calls that wait for a disk or compute a hash, kept away from those who share a thread.

Under gevent all requests of a worker share one thread, and nothing else runs while it waits for a disk.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_is_in_thread = ContextVar("is_in_thread", default=False)
"""Of the threads that run calls: one that comes there again keeps nobody waiting."""


def run_blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `function` returns or raises; in a process that gevent patched it runs in a real thread meanwhile.

    It must not sleep or use a lock that greenlets share.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading") or _is_in_thread.get():
        return function(*args, **kwargs)
    outcome: tuple[_T, None] | tuple[None, BaseException]
    outcome = sys.modules["gevent"].get_hub().threadpool.apply(_outcome, (function, args, kwargs))
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def _outcome(
    function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[_T, None] | tuple[None, BaseException]:
    """What was returned, or what was raised: of that gevent's threads would print a traceback, caught or not."""
    _is_in_thread.set(True)
    try:
        return function(*args, **kwargs), None
    except BaseException as error:
        return None, error
