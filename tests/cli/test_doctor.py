"""`hugging-llama doctor` on this machine, and on ones that lack something."""

import http.server
import json
import os
import platform
import resource
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import pytest

from hugging_llama_cli.checks.installed import satisfies
from hugging_llama_cli.checks.resources import read_memory
from hugging_llama_cli.commands import doctor
from hugging_llama_cli.main import main
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import TerminalSession
from tests.hub_server import BAD_TOKEN, GOOD_TOKEN, StandInHub
from tests.live_server import free_port

Findings = list[dict[str, str]]


@pytest.fixture
def healthy(environ: dict[str, str], hub: StandInHub) -> Iterator[dict[str, str]]:
    """The environment of a user with an empty home, a free port and a Hub that answers."""
    # not below `tmp_path`: a socket's path may have 107 bytes only
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        yield _healthy(environ, hub, Path(folder))


def _healthy(environ: dict[str, str], hub: StandInHub, folder: Path) -> dict[str, str]:
    mine = {
        "HF_ENDPOINT": hub.endpoint,
        "HUGGING_LLAMA_PORT": str(free_port()),
        "HUGGING_LLAMA_RUN_DIR": str(folder / "run"),
    }
    return {name: value for name, value in environ.items() if name != "OLLAMA_HOST"} | mine


class Examine(Protocol):
    """Runs the doctor inside the test's process, in the environment of `healthy` and these variables."""

    def __call__(self, *argv: str, **environ: str) -> tuple[int, Findings]: ...


@pytest.fixture
def examine(healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    def run(*argv: str, **environ: str) -> tuple[int, Findings]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("OLLAMA_", "HUGGING_LLAMA_", "HF_"))]:
                patch.delenv(name)
            for name, value in (healthy | environ).items():
                patch.setenv(name, value)
            code = main(["doctor", "--json", *argv])
        out, err = capsys.readouterr()
        assert err == ""
        return code, checked(out, code)

    return run


def checked(out: str, code: int) -> Findings:
    """The findings, of which all that can be said of every one holds."""
    told = json.loads(out)
    found: Findings = told["checks"]
    assert told["ok"] == (code == 0) == all(row["status"] != "problem" for row in found)
    assert all(bool(row["advice"]) == (row["status"] != "ok") for row in found)
    return found


def in_a_process(environ: dict[str, str], *argv: str, **options: Any) -> Findings:
    """The findings of a doctor in a process of its own."""
    done = subprocess.run(
        [*MODULE, "doctor", "--json", *argv], env=environ, capture_output=True, text=True, timeout=300, **options
    )
    assert done.stderr == ""
    return checked(done.stdout, done.returncode)


def only(found: Findings) -> tuple[str, str, str]:
    (row,) = found
    return row["status"], row["found"], row["advice"]


def test_this_machine(healthy: dict[str, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = in_a_process(healthy)
    assert {row["check"] for row in found} == set(doctor._NAMES) - {"url"}
    said = {row["check"]: row["found"] for row in found}
    assert platform.python_version() in said["python"]
    assert f"torch {metadata.version('torch')}" in said["torch"]
    assert f"hugging-llama {metadata.version('hugging-llama')}" in said["packages"]
    assert "no token" in said["hub"]
    assert "is free" in said["port"]
    # what may be short on the machine of a test is not looked at
    assert [row for row in found if row["status"] == "problem" and row["check"] not in ("memory", "folders")] == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def packages(healthy: dict[str, str], tmp_path: Path) -> Path:
    """A folder whose modules stand before all others."""
    folder = tmp_path / "packages"
    folder.mkdir()
    healthy["PYTHONPATH"] = os.pathsep.join([str(folder), healthy.get("PYTHONPATH", "")])
    return folder


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12: cannot open shared"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL"),
        ("import sys; sys.exit(3)", "no reason is given"),
    ],
)
def test_a_torch_that_is_broken_is_a_finding(examine: Examine, packages: Path, code: str, reason: str) -> None:
    (packages / "torch.py").write_text(code)
    exit_code, found = examine("torch", "kernels")
    status, said, advice = only(found)
    assert (exit_code, status) == (1, "problem")
    assert said.startswith("torch does not work: ")
    assert reason in said
    assert "pytorch.org" in advice


TORCH = """
import warnings
class Tensor:
    def __matmul__(self, other): return self
    def sum(self): return 1.0
def ones(*shape, device="cpu"): return Tensor()
__version__ = "9.9.9"
class version: cuda = {cuda!r}
class cuda:
    @staticmethod
    def is_available():
        warnings.warn("the NVIDIA driver on your system is too old")
        return False
class backends:
    class mps:
        @staticmethod
        def is_available(): return False
"""


def test_an_application_that_can_t_be_imported_is_a_finding(examine: Examine, packages: Path) -> None:
    (packages / "torch.py").write_text(TORCH.format(cuda=None))
    (packages / "hugging_llama").mkdir()
    (packages / "hugging_llama" / "__init__.py").write_text("raise ImportError('it is broken')")
    code, found = examine("app", "kernels", "torch")
    assert code == 1
    said = {row["check"]: row["found"] for row in found}
    assert said["torch"].startswith("torch 9.9.9")
    assert said["app"] == "the application can't be imported: ImportError: it is broken"
    assert said["kernels"] == "the engine can't be imported: ImportError: it is broken"


@pytest.mark.parametrize(
    ("cuda", "check", "said"),
    [
        (None, "torch", "torch 9.9.9, a build for CPU, while there is an NVIDIA H100"),
        ("12.8", "gpu", "torch for CUDA 12.8 sees no GPU: the NVIDIA driver on your system is too old"),
        (None, "gpu", "the device shall be cuda, and torch can use none"),
    ],
)
def test_a_gpu_that_torch_does_not_see(
    examine: Examine, healthy: dict[str, str], packages: Path, cuda: str | None, check: str, said: str
) -> None:
    """A machine that we do not have: what its driver and its torch would say."""
    (packages / "torch.py").write_text(TORCH.format(cuda=cuda))
    smi = packages / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100, 550.1, 81559'\n")
    smi.chmod(0o755)
    path = f"{packages}{os.pathsep}{healthy['PATH']}"
    found = examine(check, PATH=path, HUGGING_LLAMA_DEVICE="cuda")[1]
    assert said in [row["found"] for row in found if row["status"] != "ok"]


@pytest.mark.parametrize(
    ("version", "bounds", "holds"),
    [
        ("2.13.0+cpu", ">=2.8", True),
        ("5.19.9", ">=5.20,<6", False),
        ("6.0", ">=5.20,<6", False),
        ("3.14.0rc1", ">=3.11", True),
        ("0.1.0", "==0.1.0", True),
        ("1.0", ">=1.0.0", True),
    ],
)
def test_versions(version: str, bounds: str, *, holds: bool) -> None:
    assert satisfies(version, bounds) == holds


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("portt = 1", "problem", "unknown setting 'portt'; did you mean 'port'?"),
        ("host = '0.0.0.0'", "problem", "can be reached by others, and there are no keys"),
        ("host = '0.0.0.0'\ninsecure_no_auth = true", "warning", "everybody who reaches 0.0.0.0 may use this server"),
        ("trusted_proxies = '*'", "warning", "every program of this machine may say whom a request is from"),
        ("origins = '*'", "warning", "there are no keys: every web page"),
        ("preload = 'a, b'\nmax_loaded_models = 1", "warning", "2 models to preload, and 1 may be in memory"),
        ("device = 'cuda'\nquantize = 'int8'", "warning", "quantize = int8 has no effect on cuda"),
        ("hub_endpoint = 'hub.example'", "problem", "no http:// or https:// address"),
        ("keys_file = '{file}'", "problem", "is damaged"),
        ("", "ok", "settings can be used and go together"),
    ],
)
def test_settings(examine: Examine, text: str, status: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text.format(file=path))
    code, found = examine("settings", "--config", str(path))
    assert [row["status"] for row in found if said in row["found"]] == [status]
    assert code == (1 if status == "problem" else 0)


def test_secrets_that_everybody_can_read(examine: Examine, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(GOOD_TOKEN)
    path.chmod(0o644)
    status, said, advice = only(examine("settings", HF_TOKEN_PATH=str(path))[1])
    assert (status, said.startswith(str(path)), advice) == ("warning", True, f"chmod o-r {path}")
    path.chmod(0o600)
    assert only(examine("settings", HF_TOKEN_PATH=str(path))[1])[0] == "ok"


@pytest.mark.parametrize("variable", ["HF_TOKEN_PATH", "HUGGING_LLAMA_HUB_TOKEN_FILE"])
def test_a_file_of_a_token_that_is_not_there(examine: Examine, variable: str, tmp_path: Path) -> None:
    status, said, _ = only(examine("settings", **{variable: str(tmp_path / "nowhere")})[1])
    assert (status, said) == ("warning", f"{variable}: {tmp_path}/nowhere can't be read: No such file or directory")
    assert only(examine("settings", HF_HOME=str(tmp_path))[1])[0] == "ok", "who has no login needs none"


@pytest.mark.parametrize("folder", ["HUGGING_LLAMA_HOME", "HF_HUB_CACHE", "HUGGING_LLAMA_RUN_DIR"])
@pytest.mark.parametrize("place", ["/proc/hl", "{file}", "{file}/below"])
def test_a_folder_that_can_t_be_written(examine: Examine, folder: str, place: str, tmp_path: Path) -> None:
    """Also for root, who may write wherever anything can be written."""
    file = tmp_path / "file"
    file.write_text("")
    path = place.format(file=file)
    code, found = examine("folders", **{folder: path})
    wrong = [row for row in found if row["status"] == "problem"]
    assert code == 1
    assert len(wrong) == 1
    assert f"{path}: " in wrong[0]["found"]
    assert ("is not a folder" in wrong[0]["found"]) == ("file" in place)


def test_a_home_of_a_later_version_and_folders_of_models(examine: Examine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "format").write_text("99")
    rows = examine("folders", HUGGING_LLAMA_HOME=str(home), HUGGING_LLAMA_MODEL_DIRS="/no/such/folder")[1]
    found = {row["found"]: row["status"] for row in rows}
    assert [status for said, status in found.items() if "has format 99" in said] == ["problem"]
    assert found["model_dirs: /no/such/folder is no folder that can be read"] == "warning"


@pytest.mark.parametrize(("files", "status"), [(200, "problem"), (1000, "warning")])
def test_a_low_limit_of_open_files(healthy: dict[str, str], files: int, status: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

    found = in_a_process(healthy, "limits", preexec_fn=limit)
    (row,) = [row for row in found if "files" in row["found"]]
    assert (row["status"], str(files) in row["found"]) == (status, True)
    assert "2200" in row["advice"] or "hard limit" in row["advice"]


def test_memory_of_this_machine_and_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB\n")
    group = tmp_path / "groups" / "system.slice"
    (group / "llama.service").mkdir(parents=True)
    monkeypatch.setattr("hugging_llama_cli.checks.resources.own_groups", lambda: [group / "llama.service", group])
    facts = tmp_path / "meminfo"
    found = read_memory(facts)
    assert found is not None
    assert (found.total, found.free, found.limit) == (8_192_000_000, 6_144_000_000, 0)
    for folder, limit in ((group, "3000000000"), (group / "llama.service", "max")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("2500000000")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 1000000000\n")
    found = read_memory(facts)
    assert found is not None
    assert (found.free, found.limit) == (1_500_000_000, 3_000_000_000)
    assert read_memory(tmp_path / "none") is None


class _Ollama(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()
        self.wfile.write(b"Ollama is running" if self.path == "/" else b"404 page not found")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def ollama_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ollama)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_port_that_is_taken(examine: Examine, server: StubServer, ollama_port: int, hub: StandInHub) -> None:
    def at(port: object) -> tuple[str, str, str]:
        return only(examine("port", HUGGING_LLAMA_PORT=str(port))[1])

    assert at(server.url.rpartition(":")[2])[:1] == ("ok",)
    status, said, advice = at(ollama_port)
    assert (status, "is taken by an Ollama server" in said, "systemctl stop ollama" in advice) == (
        "problem",
        True,
        True,
    )
    status, said, _ = at(hub.port)
    assert (status, "is taken by another program" in said) == ("problem", True)
    assert f"pid {os.getpid()}" in said


def test_the_hub_and_the_token(examine: Examine, hub: StandInHub) -> None:
    def with_token(token: str, **more: str) -> tuple[str, str, str]:
        return only(examine("hub", HF_TOKEN=token, **more)[1])

    assert with_token(GOOD_TOKEN)[0] == "ok"
    assert "knows the token as me (write)" in with_token(GOOD_TOKEN)[1]
    status, said, advice = with_token(BAD_TOKEN)
    assert (status, said) == ("problem", f"the Hub at {hub.endpoint} refuses the token (401)")
    assert "hf auth login" in advice
    seen = len(hub.seen)
    assert with_token(BAD_TOKEN, HF_HUB_OFFLINE="1")[0] == "ok"
    assert len(hub.seen) == seen
    hub.fault("whoami", "status", 503)
    assert with_token(GOOD_TOKEN)[:2] == ("warning", f"the Hub at {hub.endpoint} answers 503")
    status, said, _ = with_token("", HF_ENDPOINT=f"http://me:secret@127.0.0.1:{free_port()}")
    assert (status, "can't be reached" in said, "secret" in said) == ("warning", True, False)


def test_a_check_that_fails_is_a_finding(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(subject: object) -> Iterator[Any]:
        yield from ()
        raise RecursionError("deep")

    monkeypatch.setattr("hugging_llama_cli.checks.resources.check_memory", fail)
    code, out, _ = invoke("doctor", "memory", "--json")
    assert code == 0
    assert json.loads(out)["checks"][0]["found"] == "this could not be checked: RecursionError: deep"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nose"], "there is no check 'nose'; there are settings, python"),
        (["url"], "which server? Name it with --url"),
        (["--direct", "x"], "which server? Name it with --url"),
    ],
)
def test_usage(argv: list[str], message: str, invoke: Invoke) -> None:
    code, out, err = invoke("doctor", *argv)
    assert (code, out) == (2, "")
    assert message in err


def test_plain_lines_where_nobody_looks(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "config.toml"
    path.write_text("worker = 1\n")
    code, out, err = invoke("doctor", "settings", "hub", "--config", str(path))
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"problem  settings  {path}: unknown setting 'worker'; did you mean 'workers'?"
    assert lines[1].strip() == "-> 'hugging-llama config show' says what is set and where"
    assert lines[2].startswith("ok       hub       offline mode is on")
    assert lines[-1] == "1 problem, 0 warnings, 1 ok"
    assert "\x1b" not in out


@pytest.mark.parametrize("columns", [60, 200])
def test_it_fits_the_terminal(columns: int, healthy: dict[str, str]) -> None:
    argv = [*MODULE, "doctor", "settings", "python", "cpu", "folders", "limits", "hub"]
    with TerminalSession(argv, healthy | {"HUGGING_LLAMA_WORKRES": "3"}, columns=columns) as session:
        session.expect("1 warning")
        session.finish()
        lines = [line.split("\r")[-1] for line in session.text.splitlines()]
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("warning  settings  HUGGING_LLAMA_WORKRES is no setting;") for line in lines)
    assert "\x1b[33m" in session.raw
