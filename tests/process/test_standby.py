"""The engine that stands by: started when the first one has been steady, takes over when it dies, never outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.process.servers import is_alive, wait_until

WAIT_S = 60.0
# tells when it is there and when it was told its settings, as the real engine does after its imports
ENGINE = """
import os, signal, sys
from hugging_llama.engine.heartbeat import Heartbeat
def say(what):
    with open(sys.argv[1], "a") as log:
        log.write(f"{what} {os.getpid()}\\n")
if os.path.exists(slow := sys.argv[1] + ".slow"):
    os.unlink(slow)
    say("importing")
    signal.pause()
heartbeat = Heartbeat(int(sys.argv[2]))
say("ready")
settings = sys.stdin.read()
say(f"serving:{settings}")
heartbeat.start(float(os.environ["SILENT_S"]))
while True:
    heartbeat.beat()
    signal.sigtimedwait([], heartbeat.wait_s)
"""
# as `python -m hugging_llama.client.supervisor`, with less patience for an engine that has imported what it needs
SUPERVISOR = "from hugging_llama.client import supervisor; supervisor.START_S = 1.0; supervisor.main()"
SILENT_S = "1.0"


@dataclass(frozen=True, slots=True)
class Supervised:
    """A supervisor over stand-in engines; closing `life_line` ends it."""

    log: Path
    life_line: int

    def said(self, what: str) -> list[int]:
        """Pids of the engines that said this, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == what]

    def wait_for(self, what: str, number: int) -> list[int]:
        wait_until(lambda: len(self.said(what)) >= number, WAIT_S)
        return self.said(what)

    def pair(self) -> tuple[int, int]:
        """The engine that serves and the one that stands by; which of them is there first is chance."""
        first = self.wait_for("serving:launch", 1)[0]
        (second,) = set(self.wait_for("ready", 2)) - {first}
        return first, second


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    script, log = tmp_path / "engine.py", tmp_path / "log"
    script.write_text(ENGINE)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    reader, writer = os.pipe()
    command = [sys.executable, "-c", SUPERVISOR, "--lock", str(lock), "--life-line", str(reader)]
    command += ["--standby-after", "0.2", "--silent-after", SILENT_S, "--", sys.executable, str(script), str(log)]
    environ = os.environ | {"SILENT_S": SILENT_S}
    subprocess.run(command, input=b"launch", pass_fds=[lock, reader], check=True, timeout=WAIT_S, env=environ)
    os.close(lock)
    os.close(reader)
    supervised = Supervised(log, writer)
    yield supervised
    os.close(writer)
    wait_until(lambda: not any(is_alive(pid) for pid in supervised.said("ready")), WAIT_S)


def test_a_second_engine_gets_ready_and_waits_for_its_settings(supervised: Supervised) -> None:
    first, second = supervised.pair()
    assert supervised.said("serving:launch") == [first]
    assert is_alive(second)


def test_it_takes_over_at_once_and_is_replaced(supervised: Supervised) -> None:
    first, second = supervised.pair()
    os.kill(first, signal.SIGKILL)
    assert supervised.wait_for("serving:launch", 2) == [first, second]
    assert len(supervised.wait_for("ready", 3)) == 3


def test_a_dead_standby_is_no_obstacle(supervised: Supervised) -> None:
    first, second = supervised.pair()
    os.kill(second, signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    assert supervised.wait_for("serving:launch", 2)[1] not in (first, second)


def test_both_end_with_a_killed_supervisor(supervised: Supervised) -> None:
    first, second = supervised.pair()
    os.kill(psutil.Process(first).ppid(), signal.SIGKILL)
    wait_until(lambda: not is_alive(first) and not is_alive(second), WAIT_S)


def test_a_killed_standby_is_replaced_while_the_engine_serves(supervised: Supervised) -> None:
    first, second = supervised.pair()
    os.kill(second, signal.SIGKILL)
    third = supervised.wait_for("ready", 3)[2]
    os.kill(first, signal.SIGKILL)
    assert supervised.wait_for("serving:launch", 2) == [first, third]


def test_a_stopped_standby_that_takes_over_is_replaced(supervised: Supervised) -> None:
    """It is given what a start takes, not what imports take: those it has behind it."""
    first, second = supervised.pair()
    os.kill(second, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    assert supervised.wait_for("serving:launch", 2)[1] not in (first, second)
    assert not is_alive(second)


def test_one_that_hangs_in_its_imports_gives_way_to_one_that_has_them_behind_it(supervised: Supervised) -> None:
    first, second = supervised.pair()
    supervised.log.with_name("log.slow").touch()
    os.kill(second, signal.SIGKILL)
    third = supervised.wait_for("importing", 1)[0]
    os.kill(first, signal.SIGKILL)
    assert supervised.wait_for("serving:launch", 2)[1] not in (first, second, third)
    assert not is_alive(third)
