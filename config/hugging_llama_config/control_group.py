"""Which control groups bound this process: a container's, or a systemd unit's with MemoryMax= and CPUQuota=."""

from collections.abc import Sequence
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


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
