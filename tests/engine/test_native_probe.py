"""Loading the kernels: what is compared before use, and what happens without them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hugging_llama.engine.native import library as loading
from hugging_llama.engine.native import probe
from hugging_llama.engine.native.elementwise import rms_norm
from hugging_llama.engine.native.probe import Family, native_families
from tests.engine.native_marks import needs_kernels


@pytest.fixture
def fresh() -> Iterator[None]:
    """Both caches forget, before and after."""
    forget()
    yield
    forget()


def forget() -> None:
    native_families.cache_clear()
    loading.library.cache_clear()


@needs_kernels
def test_all_families_agree_with_torch_here() -> None:
    assert native_families() == frozenset(Family)


@needs_kernels
def test_the_kernels_bring_no_second_openmp_runtime() -> None:
    code = """
import torch
from hugging_llama.engine.native.probe import native_families
torch.set_num_threads(2)
torch.randn(512, 512) @ torch.randn(512, 512)
assert native_families()
maps = open("/proc/self/maps").read().split()
print(len({path for path in maps if "omp" in path.rsplit("/", 1)[-1]}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "1"


@needs_kernels
@pytest.mark.usefixtures("fresh")
def test_a_family_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "silu_mul", lambda x: x[:, : x.shape[1] // 2])
    assert native_families() == frozenset(Family) - {Family.ELEMENTWISE}
    assert "elementwise" in caplog.text


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("damage", ["missing", "no library", "another version"])
def test_without_a_library_there_are_no_families(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "kernels.so"
    if damage == "no library":
        path.write_bytes(b"\x7fELF and then nothing")
    if damage == "another version":
        path = Path(loading.__file__).with_name("kernels.so")
        monkeypatch.setattr(loading, "_VERSION", -1)
    monkeypatch.setattr(loading, "_LIBRARY", path)
    assert native_families() == frozenset()
    with pytest.raises(RuntimeError, match="not available"):
        rms_norm(torch.ones(1, 8), torch.ones(8), 1e-6)
