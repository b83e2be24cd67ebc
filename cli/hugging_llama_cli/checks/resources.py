"""What the system lets us have: memory, open files, processes, address space."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hugging_llama_cli.checks.finding import Finding, Subject, ok, problem, warning
from hugging_llama_config.control_group import memory_limits, own_groups
from hugging_llama_config.units import format_bytes

_LEAST_BYTES, _LITTLE_BYTES = 500 * 10**6, 2 * 10**9
# of a worker beside its connections: the engine, the log, metrics, files of models that are read and written
_OTHER_FILES = 200
_LEAST_FILES, _LEAST_PROCESSES = 256, 256


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; `limit` is a container's, 0 if there is none."""

    total: int
    free: int
    limit: int


def check_memory(subject: Subject) -> Iterator[Finding]:
    """Main memory, and a container's limit."""
    memory = read_memory()
    if memory is None:
        yield warning("this system does not tell how much memory is free", "look yourself: a model needs its weights")
        return
    owner = f"of {format_bytes(memory.total)}"
    if memory.limit:
        owner = f"of the {format_bytes(memory.limit)} that this container or service may have"
    found = f"{format_bytes(memory.free)} {owner} free"
    advice = "stop something, or raise the limit; 'hugging-llama catalog' says which models fit"
    if memory.free < _LEAST_BYTES:
        yield problem(found, advice)
    elif memory.free < _LITTLE_BYTES:
        yield warning(found, advice)
    else:
        yield ok(found)
    wanted = subject.settings.kv_cache_bytes
    if wanted > memory.free and subject.settings.device in ("auto", "cpu"):
        yield problem(
            f"kv_cache_bytes is {format_bytes(wanted)}, more than is free", "lower it, or leave it at 0 for automatic"
        )


def read_memory(facts: Path = Path("/proc/meminfo")) -> Memory | None:
    """None where the system does not tell."""
    try:
        rows = [line.split() for line in facts.read_text().splitlines()]
        sizes = {row[0]: int(row[1]) * 1024 for row in rows if len(row) == 3}
        memory = Memory(sizes["MemTotal:"], sizes["MemAvailable:"], 0)
    except (OSError, KeyError, ValueError):
        return None
    for group in memory_limits(own_groups()):
        if group.limit < (memory.limit or memory.total):
            memory = Memory(memory.total, max(0, min(memory.free, group.limit - group.used)), group.limit)
    return memory


def check_limits(subject: Subject) -> Iterator[Finding]:
    """The user's limits (ulimit)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = subject.settings.worker_connections
    needed = connections + _OTHER_FILES
    found = f"a process may open {_count(soft)} files"
    if not 0 <= soft < needed:
        yield ok(f"{found}, enough for {connections} connections a worker")
    else:
        how = f"ulimit -n {needed}" if not 0 <= hard < needed else f"raise the hard limit of {hard} first"
        advice = f"{how} (LimitNOFILE={needed} for systemd), or worker_connections = {max(1, soft - _OTHER_FILES)}"
        found += f", too few for {connections} connections a worker"
        yield problem(found, advice) if soft < _LEAST_FILES else warning(found, advice)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0] if hasattr(resource, "RLIMIT_NPROC") else -1
    # the administrator is not held to it
    if 0 <= processes < _LEAST_PROCESSES and os.geteuid() != 0:
        yield warning(
            f"this user may have {processes} processes and threads", f"ulimit -u {_LEAST_PROCESSES} or more (TasksMax)"
        )
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        yield warning(
            f"the address space of a process is limited to {format_bytes(space)}",
            "ulimit -v unlimited: torch and CUDA reserve much more than they use; limit memory by a cgroup",
        )


def _count(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else str(limit)
