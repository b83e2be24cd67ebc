"""The format of the home: converted once, at any kill, by any number of processes; a later one is left alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hugging_llama import create_app
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.store import home_format
from hugging_llama.store.manifests import Manifest, Manifests, Source
from hugging_llama.store.names import parse_name
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import ConfigError
from hugging_llama_config.home_format import HomeFormatError, read_home_format
from hugging_llama_config.settings import Settings

COUNT = 5
MADE_AT_NS = 1_600_000_000_123_456_789


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    """What version 1 wrote, and a file that nobody can read."""
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(COUNT):
        manifest = {
            "version": 1, "name": f"Mine{number}:latest", "from": "acme/base:v1", "quantization": "int8",
            "parameters": {"stop": ["x"]}, "context_length": 512, "system": f"text {number}",
        }  # fmt: skip
        path = folder / f"mine{number}--latest.json"
        path.write_text(json.dumps(manifest))
        os.utime(path, ns=(MADE_AT_NS, MADE_AT_NS))
    (folder / "broken--latest.json").write_text('{"version": 1, ')
    return tmp_path


def check(home: Path) -> None:
    """All models are there, whatever format their files have."""
    found = list(Manifests(str(home)).all())
    assert [named.manifest.name for named in found] == [f"Mine{number}:latest" for number in range(COUNT)]
    for number, named in enumerate(found):
        assert named.manifest.source == Source(base="acme/base:v1")
        assert named.manifest.parameters == {"stop": ["x"]}
        assert named.manifest.system == f"text {number}"
        assert named.modified_at_s == pytest.approx(MADE_AT_NS / 1e9)


def versions(home: Path) -> list[int]:
    return [json.loads(path.read_text())["version"] for path in sorted((home / "models").glob("mine*.json"))]


def test_an_old_home_is_read_as_it_is_and_converted_before_a_write(old_home: Path) -> None:
    assert read_home_format(str(old_home)) == 1
    check(old_home)
    assert set(versions(old_home)) == {1}
    home_format.prepare(str(old_home))
    check(old_home)
    assert set(versions(old_home)) == {2}
    assert read_home_format(str(old_home)) == 2
    assert (old_home / "models" / "broken--latest.json").read_text() == '{"version": 1, '
    stamps = [path.stat().st_ctime_ns for path in (old_home / "models").iterdir()]
    home_format.prepare(str(old_home))
    assert [path.stat().st_ctime_ns for path in (old_home / "models").iterdir()] == stamps
    assert "from" not in json.loads((old_home / "models" / "mine0--latest.json").read_text())


def test_a_new_home_says_its_format(tmp_path: Path) -> None:
    Manifests(str(tmp_path / "new")).write(Manifest(name="x:latest", source=Source(base="a/b:latest")))
    assert (tmp_path / "new" / "format").read_text() == "2\n"


@pytest.mark.parametrize("said", ["3", "99999999999999999999999", "two", "", "-1", "0", "٢", "2.5"])
def test_a_later_home_is_refused(old_home: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (old_home / "format").write_text(said)
    before = versions(old_home)
    manifests = Manifests(str(old_home))
    writes: list[Callable[[], object]] = [
        lambda: manifests.write(Manifest(name="x:latest", source=Source(base="a/b:latest"))),
        lambda: manifests.retire(parse_name("mine0")),
        lambda: home_format.prepare(str(old_home)),
    ]
    for write in writes:
        with pytest.raises(HuggingLlamaError, match=r"install the newer version|HUGGING_LLAMA_HOME"):
            write()
    with pytest.raises(ConfigError, match="HUGGING_LLAMA_HOME"):
        create_app(Settings(home=str(old_home)), engine=ScriptedEngine())
    with pytest.raises(HomeFormatError):
        read_home_format(str(old_home))
    assert versions(old_home) == before
    assert (old_home / "format").read_text() == said


def test_a_server_does_not_start_on_a_later_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "format").write_text("3\n")
    environ = {**os.environ, "HOME": str(tmp_path), "HUGGING_LLAMA_HOME": str(home)}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", "wsgi:app"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Error: the folder of named models has format 3" in done.stderr
    assert "Traceback" not in done.stderr


# kills itself at the nth call of what changes the disk
_KILLED = """
import os, signal, sys
from hugging_llama.store import home_format
left = int(sys.argv[2])
def counted(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
for name in ("open", "write", "utime", "fsync", "replace", "close"):
    setattr(os, name, counted(getattr(os, name)))
home_format.prepare(sys.argv[1])
print("done")
"""


def test_a_conversion_that_is_killed_goes_on_the_next_time(old_home: Path) -> None:
    """At points all over it, each after what the kills before have left."""
    seen = set()
    for point in range(0, 60, 4):
        command = [sys.executable, "-c", _KILLED, str(old_home), str(point)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        check(old_home)
        seen.add(versions(old_home).count(2))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert read_home_format(str(old_home)) == 1 or set(versions(old_home)) == {2}
    assert len(seen) > 2, "it was killed in between"
    home_format.prepare(str(old_home))
    assert set(versions(old_home)) == {2}
    assert read_home_format(str(old_home)) == 2


def test_processes_that_convert_at_once(old_home: Path) -> None:
    code = "import sys; from hugging_llama.store import home_format; home_format.prepare(sys.argv[1])"
    command = [sys.executable, "-c", code, str(old_home)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    check(old_home)
    assert set(versions(old_home)) == {2}
    assert sorted(path.name for path in old_home.iterdir()) == [".format.lock", "format", "models"]
