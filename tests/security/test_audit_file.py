"""The file of the audit log: whole lines, whatever happens, and a plain word where it can't be written."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.store import audit_file
from hugging_llama.store.audit_file import append
from tests.live_server import free_port
from tests.security.conftest import COMMAND


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_line_begins_behind_what_is_torn(log: Path) -> None:
    """As a server leaves it that was killed, or a disk that was full, before there was a lock."""
    log.write_bytes(b'{"whole": 1}\n{"to')
    append(str(log), b"")
    assert log.read_bytes().endswith(b'{"to')
    append(str(log), b'{"next": 1}\n')
    append(str(log), b'{"last": 1}\n')
    assert log.read_bytes() == b'{"whole": 1}\n{"to\n{"next": 1}\n{"last": 1}\n'


def test_of_a_line_without_room_nothing_stays(log: Path) -> None:
    """Many processes, of which some may write no further than into the middle of a line."""
    program = (
        "import resource, sys; from hugging_llama.store import audit_file\n"
        "audit_file._LONGEST_LOCK_S = 300.0\n"  # however slow this machine is
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "failed = 0\n"
        "for n in range(200):\n"
        "    try: audit_file.append(sys.argv[1], b'[\"' + b'x' * 1000 + b'\"]\\n')\n"
        "    except OSError: failed += 1\n"
        "print(failed)"
    )
    limits = ["20500", "20500", "100000000", "100000000"]
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(log), limit], stdout=subprocess.PIPE) for limit in limits
    ]
    failed = [int(writer.communicate(timeout=300)[0]) for writer in writers]
    assert min(failed[:2]) >= 180
    assert failed[2:] == [0, 0]
    assert len(lines(log)) == 800 - sum(failed)


def test_who_keeps_the_lock_keeps_nothing_from_being_written(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "_LONGEST_LOCK_S", 0.01)
    log.touch()
    with log.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        append(str(log), b"[1]\n")
    assert lines(log) == [[1]]


@pytest.fixture
def run_dir() -> Iterator[str]:
    """A short name, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        yield folder


@pytest.mark.parametrize("kind", ["folder", "link", "device"])
def test_a_server_says_in_one_line_why_it_can_not_write(tmp_path: Path, run_dir: str, kind: str) -> None:
    log = tmp_path / "audit.jsonl"
    if kind == "folder":
        log.mkdir()
    elif kind == "link":
        log.symlink_to(tmp_path / "target")
    else:
        log = Path("/dev/full")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HUGGING_LLAMA_RUN_DIR": run_dir}
    environ |= {"HUGGING_LLAMA_AUDIT_LOG": str(log), "HUGGING_LLAMA_PORT": str(free_port())}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    ended = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert ended.returncode == 1
    why = {"folder": "it is a folder", "link": "it is a symbolic link, which", "device": "it is no regular file"}[kind]
    (line,) = (line for line in ended.stderr.splitlines() if "[INFO]" not in line)
    assert line.startswith(f"Error: HUGGING_LLAMA_AUDIT_LOG: {log} can't be written: {why}")
