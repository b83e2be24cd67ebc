"""How much memory this process holds and may hold, on systems that can say it."""

import resource


def data_bytes() -> int:
    """What this process holds; 0 where the system can't say."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    except (OSError, StopIteration, ValueError):
        return 0


def limit_data(more_bytes: int) -> None:
    """What this process has now and `more_bytes` is all it gets; no limit where the system can't say what it has."""
    if has := data_bytes():
        resource.setrlimit(resource.RLIMIT_DATA, (has + more_bytes, has + more_bytes))
