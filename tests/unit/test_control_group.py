"""Which control groups a process is in, as the kernel tells it to a service and inside a container."""

from pathlib import Path

import pytest

from hugging_llama_config.control_group import GroupMemory, memory_limits, own_groups


@pytest.mark.parametrize(
    ("membership", "found"),
    [
        ("0::/system.slice/llama.service\n", ["system.slice/llama.service", "system.slice", "."]),
        ("0::/\n", ["."]),  # a container that sees its own group as the root
        ("0::/docker/12ab\n", ["."]),  # one that is told a name outside of what it sees
        ("0::/../other\n", ["."]),
        ("12:memory:/system.slice/llama.service\n", ["."]),  # version 1
        ("12:memory:/a\n0::/system.slice\n", ["system.slice", "."]),
        ("", ["."]),
    ],
)
def test_own_groups(membership: str, found: list[str], tmp_path: Path) -> None:
    root = tmp_path / "groups"
    (root / "system.slice" / "llama.service").mkdir(parents=True)
    (tmp_path / "cgroup").write_text(membership)
    assert own_groups(root, tmp_path / "cgroup") == [root / name for name in found]


def test_without_control_groups(tmp_path: Path) -> None:
    assert own_groups(tmp_path, tmp_path / "none") == [tmp_path]


def test_the_memory_that_groups_may_have(tmp_path: Path) -> None:
    v2, v1, free, damaged = groups = [tmp_path / name for name in ("v2", "v1", "free", "damaged")]
    for group in groups:
        (group / "memory").mkdir(parents=True)
    for group, limit in ((v2, "500"), (free, "max"), (damaged, "500")):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("400\n")
        (group / "memory.stat").write_text("anon 1\nactive_file 50\ninactive_file 100\n")
    (damaged / "memory.stat").write_text("nonsense")
    for group, limit in ((v1, "600"), (free, str(2**63 - 4096))):
        (group / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (group / "memory" / "memory.usage_in_bytes").write_text("400\n")
    (v1 / "memory" / "memory.stat").write_text("total_active_file 300\ntotal_inactive_file 200\n")
    assert list(memory_limits([*groups, tmp_path])) == [
        GroupMemory(500, 250),
        GroupMemory(600, 0),
        GroupMemory(500, 400),
    ]
