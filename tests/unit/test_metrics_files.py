"""The space for a worker's figures, and what prometheus_client makes of files that are there already."""

import os
import subprocess
import sys
from pathlib import Path

from hugging_llama_config.metrics_files import reserve, shrink

COUNT = """
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
Counter("c", "c", ["x"]).labels("1").inc(5)
Histogram("h", "h").observe(2)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def count(folder: Path) -> tuple[int, str]:
    """A process that counts in files made for it before, as gunicorn's hook does: its pid, and the sum over all."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.read({reading}, 1)\n{COUNT}"],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        pass_fds=[reading],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert reserve(folder, process.pid)
        os.write(writing, b"x")
        out = process.communicate(timeout=60)[0]
    os.close(reading)
    os.close(writing)
    assert process.returncode == 0
    return process.pid, out


def test_what_is_counted_in_them_is_summed_up_and_stays(tmp_path: Path) -> None:
    pid, first = count(tmp_path)
    assert 'c_total{x="1"} 5.0' in first
    reserved = sum(path.stat().st_size for path in tmp_path.iterdir())
    shrink(tmp_path, pid)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < reserved / 100
    _, second = count(tmp_path)
    assert 'c_total{x="1"} 10.0' in second
    assert "h_count 2.0" in second


def test_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not reserve(tmp_path / "file", 7)
    folder = tmp_path / "home" / "figures"  # which somebody has deleted
    assert reserve(folder, 7)
    assert all(path.stat().st_blocks * 512 >= path.stat().st_size for path in folder.iterdir())
    shrink(folder, 7)
    assert list(folder.iterdir()) == []
    shrink(folder, 7)
