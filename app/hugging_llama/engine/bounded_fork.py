"""Work of which a process may die, in a fork of one that does nothing else. Imports neither torch nor transformers."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable

from hugging_llama.engine.process_memory import limit_data

TOO_LONG, TOO_LARGE = "too long", "too much memory"


def run_bounded(work: Callable[[], str], *, longest_s: float, most_bytes: int) -> tuple[str, str]:
    """What `work` returns, and ""; or "", and TOO_LONG where it took `longest_s` of CPU time, TOO_LARGE where it came
    to no end for another reason: mostly that it would have taken more than `most_bytes` of memory.

    For a process with one thread.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # that memory was short is no news for the log
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
                score.write("1000")  # where the whole machine is out of memory, this one goes first
            signal.setitimer(signal.ITIMER_PROF, longest_s)
            limit_data(most_bytes)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    _, status = os.waitpid(pid, 0)
    if found:
        return found, ""
    return "", TOO_LONG if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF else TOO_LARGE
