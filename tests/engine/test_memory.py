"""How much memory counts as free: within a control group, and beside what torch keeps."""

from collections import namedtuple
from pathlib import Path

import pytest
import torch

from hugging_llama.engine import memory

CPU = torch.device("cpu")
GIB = 2**30

Available = namedtuple("Available", ["available"])


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group of 16 GiB on a machine with 64 GiB; 14 GiB are used, 9 of them by files that were read."""
    (tmp_path / "memory.max").write_text(f"{16 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{14 * GIB}\n")
    parts = f"anon {5 * GIB}\nfile {9 * GIB}\ninactive_file {8 * GIB}\nactive_file {GIB}\n"
    (tmp_path / "memory.stat").write_text(parts)
    monkeypatch.setattr(memory, "own_groups", lambda: [tmp_path])
    monkeypatch.setattr("psutil.virtual_memory", lambda: Available(64 * GIB))
    return tmp_path


def test_files_that_were_read_are_not_in_the_way(group: Path) -> None:
    assert memory.free_bytes(CPU) == 11 * GIB


def test_the_machine_bounds_the_group(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: Available(3 * GIB))
    assert memory.free_bytes(CPU) == 3 * GIB


def test_the_groups_above_bound_it_too(group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text(f"{GIB}\n")
    monkeypatch.setattr(memory, "own_groups", lambda: [inner, group])
    assert memory.free_bytes(CPU) == 11 * GIB
    (inner / "memory.max").write_text(f"{3 * GIB}\n")
    assert memory.free_bytes(CPU) == 2 * GIB


@pytest.mark.parametrize(
    ("file", "text", "free"), [("max", "max\n", 64), ("stat", "damaged", 2), ("stat", "anon 5", 2)]
)
def test_figures_that_are_not_there(group: Path, file: str, text: str, free: int) -> None:
    (group / f"memory.{file}").write_text(text)
    assert memory.free_bytes(CPU) == free * GIB
    (group / f"memory.{file}").unlink()
    assert memory.free_bytes(CPU) == free * GIB


def test_what_torch_keeps_can_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (4 * GIB, 80 * GIB))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 30 * GIB)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 10 * GIB)
    assert memory.free_bytes(torch.device("cuda", 0)) == 24 * GIB
