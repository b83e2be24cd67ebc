"""Which control groups a process is in, as the kernel tells it to a service and inside a container."""

from pathlib import Path

import pytest

from hugging_llama_config.control_group import own_groups


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
