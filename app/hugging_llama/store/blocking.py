"""Calls that wait for a disk or compute a hash, kept away from those who share a thread.

Under gevent all requests of a worker share one thread, and nothing else runs while it waits for a disk.
"""

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run_blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `function` returns or raises; in a process that gevent patched it runs in a real thread meanwhile.

    It must not sleep or use a lock that greenlets share.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return function(*args, **kwargs)
    result: _T = sys.modules["gevent"].get_hub().threadpool.apply(function, args, kwargs)
    return result
