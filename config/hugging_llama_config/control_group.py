"""Which control groups bound this process: a container's, or a systemd unit's with MemoryMax= and CPUQuota=."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# limit, use, figures, and those of the figures that are files in memory: of version 2, and of version 1
_V2 = ("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file"))
_V1 = (
    "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
    ("total_active_file", "total_inactive_file"),
)  # fmt: skip
_NO_LIMIT = 2**60


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """Bytes that a group may have, and that it uses beside files that it has read, weights above all: these are given
    up when needed."""

    limit: int
    used: int


def own_groups(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> Sequence[Path]:
    """The folders of this process's group and of all above it, the innermost first. Each may have limits.

    A container usually sees its own group as the root, so that is always one of them.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    # version 2 has this one line; "..": the group lies outside of what this process may see
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    parts = [] if ".." in name.split("/") else [part for part in name.split("/") if part]
    groups = [root.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]
    return [group for group in groups if group == root or group.is_dir()]


def memory_limits(groups: Iterable[Path]) -> Iterator[GroupMemory]:
    """Of those that have a limit."""
    for group in groups:
        for limit_file, use_file, figures_file, names in (_V2, _V1):
            try:
                limit, use = (int((group / name).read_text()) for name in (limit_file, use_file))
            except (OSError, ValueError):  # no such file, or the word "max"
                continue
            if limit < _NO_LIMIT:
                yield GroupMemory(limit, max(0, use - _file_bytes(group / figures_file, names)))


def _file_bytes(figures: Path, names: Iterable[str]) -> int:
    try:
        found = dict(line.split() for line in figures.read_text().splitlines())
        return sum(int(found.get(name, 0)) for name in names)
    except (OSError, ValueError):
        return 0
