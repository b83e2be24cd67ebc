"""Blocking calls in a process that gevent patched."""

import subprocess
import sys
import textwrap

UNDER_GEVENT = """
    import gevent.monkey
    gevent.monkey.patch_all()
    import threading
    from hugging_llama.errors import InvalidRequestError
    from hugging_llama.store.blocking import run_blocking

    def here():
        return gevent.monkey.get_original("threading", "get_ident")()

    def work(*, fails):
        if fails:
            raise InvalidRequestError("no such thing")
        return here(), run_blocking(here)

    outer, inner = run_blocking(work, fails=False)
    assert outer != here()
    assert outer == inner
    assert run_blocking(here) == outer  # of the same pool, and not in the caller's thread
    try:
        run_blocking(work, fails=True)
    except InvalidRequestError as error:
        print(error.message)
"""


def test_what_is_raised_in_the_thread_is_raised_here_and_nowhere_printed() -> None:
    command = [sys.executable, "-c", textwrap.dedent(UNDER_GEVENT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr) == ("no such thing\n", "")
