"""What a server makes of its settings: bad ones, changed ones, an engine that can't start."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from hugging_llama.client.ensure import ensure_engine
from hugging_llama.errors import EngineDiedError
from hugging_llama_config import launch
from hugging_llama_config.launch import engine_settings, is_failing, is_supervised
from hugging_llama_config.settings import DEFAULTS, Settings
from tests.process import scripted_engine
from tests.process.servers import HERE, Server, serve, wait_for_both_workers, wait_until

# read by others for the engine: its environment, its supervisor
FOR_THE_ENGINE = {"num_threads", "standby_engine"}


def write_settings(server: Server, text: str) -> None:
    path = server.run_dir.parent / ".cache" / "hugging-llama" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("variable", ["HUGGING_LLAMA_WORKERS", "HUGGING_LLAMA_CONFIG", "file"])
def test_settings_that_can_t_be_are_one_line_and_a_status(variable: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", "wsgi:app"]
    environ = {**os.environ, "HOME": str(tmp_path)}
    if variable == "file":
        path = tmp_path / ".config" / "hugging-llama" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text("port = 99999")
        variable = f"{path}: port"
    else:
        environ[variable] = "/nowhere"
    done = subprocess.run(command, cwd=HERE.parents[1], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {variable}: ")
    assert done.stderr.count("\n") == 1


def test_hup_serves_on_with_bad_settings_and_keeps_the_engine_where_only_the_web_changed(tmp_path: Path) -> None:
    may_end = tmp_path / "may end"
    with serve() as server:
        engine, old_workers = server.status()["pid"], server.workers()
        write_settings(server, "workers = 0\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded: " in server.log.read_text())
        assert server.workers() == old_workers
        # one of the old workers has something to drain; one without may be gone before it says that it drains
        server.open(f"/gen?n=5&until={quote(str(may_end))}").read_until(b"xxxxx")
        write_settings(server, 'preload = ["demo"]\nload_timeout_s = 7\ntrust_remote_code = true\nhub_cache = "/x"\n')
        server.process.send_signal(signal.SIGHUP)
        # what our own loggers say in a worker
        wait_until(lambda: "] INFO hugging_llama: worker " in server.log.read_text())
        may_end.touch()
        wait_until(lambda: not set(server.workers()) & set(old_workers))
        wait_for_both_workers(server)
        assert server.status()["pid"] == engine


def test_hup_reads_the_file_anew_also_what_gunicorn_itself_goes_by(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("workers = 2\n")
    # a variable that is empty leaves the word to the file
    with serve(HUGGING_LLAMA_CONFIG=str(path), HUGGING_LLAMA_WORKERS="") as server:
        path.write_text("workers = 1\nlog_level = 'warning'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers()) == 1, 60)
        path.write_text("workers = 1\nhost = '0.0.0.0'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded: 0.0.0.0 can be reached by others" in server.log.read_text(), 60)
        # at this level gunicorn does not say that it was sent a signal
        assert server.log.read_text().count("Handling signal: hup") == 1
        assert len(server.workers()) == 1


def test_hup_may_change_the_format_of_the_log_and_back_and_no_bad_address_ends_the_server(tmp_path: Path) -> None:
    with serve() as server:

        def reloaded(text: str, message: str, times: int) -> None:
            write_settings(server, text)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.log.read_text().count(message) == times)

        assert server.log.read_text().count("[INFO] Booting worker") == 2
        reloaded("log_format = 'json'\n", '"message": "Booting worker', 2)
        # no machine has this address, and gunicorn would end after it has closed its own
        reloaded("host = '192.0.2.1'\ninsecure_no_auth = true\n", '"message": "not reloaded: ', 1)
        reloaded("", "[INFO] Booting worker", 4)
        assert server.log.read_text().count('"message": "Booting worker') == 2
        assert server.lines("/gen?n=1")[-1]["done_reason"] == "stop"


def test_what_the_engine_does_not_read_makes_no_other_engine() -> None:
    folder = HERE.parents[1] / "app" / "hugging_llama" / "engine"
    source = "\n".join(path.read_text() for path in folder.glob("*.py"))
    read = {name for name in DEFAULTS if f"settings.{name}" in source} | FOR_THE_ENGINE
    assert read == DEFAULTS.keys() - set(launch._WEB_ONLY)
    assert engine_settings(Settings(hub_token="x", home="/x")) == Settings()


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="hl-") as run_dir:
        yield Settings(run_dir=run_dir)


def test_an_engine_that_ends_again_and_again_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ENGINE_COMMAND", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
    reader, writer = os.pipe()
    try:
        for _ in range(2):
            with pytest.raises(EngineDiedError, match="ends again and again"):
                ensure_engine(settings, reader, timeout_s=120)
    finally:
        os.close(writer)
    wait_until(lambda: not is_supervised(settings))
    # the next supervisor tries anew, whatever the last one has noted
    assert is_failing(settings)
    monkeypatch.setattr(launch, "ENGINE_COMMAND", (sys.executable, scripted_engine.__file__))
    monkeypatch.setattr(launch, "LINGER_S", 1.0)
    ensure_engine(settings, timeout_s=120).close()
    assert not is_failing(settings)
    os.close(reader)
    wait_until(lambda: not is_supervised(settings))


def test_a_supervisor_without_a_life_line_gives_up_engines_that_can_not_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application that wanted one may have gone, and nobody else would end it."""
    monkeypatch.setattr(launch, "ENGINE_COMMAND", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
    monkeypatch.setattr(launch, "LINGER_S", 1.0)
    assert launch.start_supervisor(settings)
    wait_until(lambda: not is_supervised(settings))
    assert is_failing(settings)


def test_a_supervisor_minds_its_engine_and_term_whatever_its_starter_blocks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI's threads have all signals blocked, and what they start inherits that."""
    code = "import os, signal, sys; print(os.getpid(), os.getppid(), file=open(sys.argv[1], 'a')); signal.pause()"
    monkeypatch.setattr(launch, "ENGINE_COMMAND", (sys.executable, "-S", "-c", code))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        assert launch.start_supervisor(settings)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    told = Path(launch.socket_path(settings))

    def engines() -> list[list[int]]:
        text = told.read_text() if told.exists() else ""
        return [[int(pid) for pid in line.split()] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    wait_until(lambda: len(engines()) == 1)
    supervisor = engines()[0][1]
    try:
        os.kill(engines()[0][0], signal.SIGKILL)
        wait_until(lambda: len(engines()) == 2)
        os.kill(supervisor, signal.SIGTERM)
        wait_until(lambda: not is_supervised(settings))
    finally:
        if is_supervised(settings):
            os.kill(supervisor, signal.SIGKILL)
