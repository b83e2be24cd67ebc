"""Conversions as the web side sees them: a child process, what it may, and what stays when it ends."""

import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hugging_llama.errors import InvalidRequestError, TransferError
from hugging_llama.store import conversion_folder
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.conversion import Conversion, convert_files, needs_conversion
from hugging_llama.store.folders import make_folder
from hugging_llama.store.snapshot import read_snapshot
from hugging_llama_config import launch
from hugging_llama_config.settings import Settings
from tests.gguf_files import make_small, write_gguf


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(folder / "model.gguf", "Q8_0", make_small(folder / "source"))


class Home:
    """A home with blobs, and the settings that name it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = Blobs(str(path))

    def put(self, content: bytes) -> str:
        file = self.path.parent / "upload"
        file.write_bytes(content)
        return self.blobs.add_file(str(file))

    def convert(self, files: dict[str, str], **settings: Any) -> Conversion:
        return convert_files(Settings(home=str(self.path), **settings), self.blobs, files)

    def is_clean(self) -> bool:
        return not list(self.path.glob("conversions/*"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(conversion: Iterator[Any]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        list(conversion)
    return caught.value.message


def test_a_gguf_file_becomes_a_model(home: Home, gguf_file: Path) -> None:
    (home.path / ".conversion.lock").touch(0o644)  # as earlier versions made it
    conversion = home.convert({"any name.GGUF": home.put(gguf_file.read_bytes())})
    statuses = [progress.status for progress in conversion]
    assert statuses[0] == "parsing GGUF"
    assert list(dict.fromkeys(statuses)) == ["parsing GGUF", "converting model", "verifying conversion"]
    folder = make_folder(str(home.path), conversion.files)
    assert read_snapshot(folder).weights == ("model.safetensors",)
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= conversion.files.keys()
    assert all(home.blobs.has(digest) for digest in conversion.files.values())
    assert home.is_clean()
    assert (home.path / ".conversion.lock").stat().st_mode & 0o777 == 0o600, "no other user can hold it"


def test_what_needs_a_conversion() -> None:
    assert needs_conversion({"x.gguf": ""})
    assert needs_conversion({"config.json": "", "pytorch_model.bin": ""})
    assert needs_conversion({"pytorch_model-00001-of-00002.bin": ""})
    assert not needs_conversion({"config.json": "", "model.safetensors": "", "pytorch_model.bin": ""})
    assert not needs_conversion({"config.json": "", "training_args.bin": ""})


def test_files_that_can_not_be_converted(home: Home, gguf_file: Path) -> None:
    digest, other = home.put(gguf_file.read_bytes()), home.put(b"GGUF but not really")
    assert refused(home.convert({"x.gguf": other})) == "this GGUF file is cut short"
    assert "alone" in refused(home.convert({"x.gguf": digest, "y.gguf": other}))
    assert "alone" in refused(home.convert({"x.gguf": digest, "config.json": other}))
    assert "f" * 64 in refused(home.convert({"x.gguf": "f" * 64}))
    assert refused(home.convert({"../x.gguf": digest})) == refused(home.convert({"x.gguf": "../../etc"}))
    assert "no files" in refused(home.convert({"config.json": other}))
    assert home.is_clean()


def test_a_server_without_the_packages_says_what_to_install(
    home: Home, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = refused(home.convert({"x.gguf": home.put(gguf_file.read_bytes())}))
    assert "gguf and accelerate" in message
    assert "pip install 'hugging-llama[gguf]'" in message


def test_pickles_are_for_operators_to_allow(home: Home, tmp_path: Path) -> None:
    state = tmp_path / "state.bin"
    torch.save({"w": torch.ones(4)}, state)
    files = {"config.json": home.put(b"{}"), "pytorch_model.bin": home.put(state.read_bytes())}
    assert "HUGGING_LLAMA_ALLOW_PICKLE" in refused(home.convert(files))
    conversion = home.convert(files, allow_pickle=True)
    assert next(conversion).status == "converting model"
    list(conversion)
    assert conversion.files.keys() == {"config.json", "model.safetensors"}
    assert conversion.files["config.json"] == files["config.json"]
    assert home.is_clean()


def started(conversion: Conversion) -> int:
    """The child's process id, once it works."""
    while next(conversion).status != "converting model":
        pass
    process = conversion._process
    assert process is not None
    return process._child.pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_closing_ends_it_and_leaves_nothing(home: Home, gguf_file: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    conversion = home.convert({"x.gguf": home.put(gguf_file.read_bytes())})
    pid = started(conversion)
    assert not home.is_clean()
    conversion.close()
    conversion.close()
    until(lambda: not is_alive(pid))
    assert home.is_clean()
    assert list(conversion) == []
    assert conversion.files == {}
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)


ENDLESS = (
    "import sys, threading; from hugging_llama.engine import conversion\n"
    "conversion.convert = lambda request: threading.Event().wait()\n"
    "conversion.main(int(sys.argv[1]))"
)
"""The real child around a conversion that never ends: none is done before a test that is late."""


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CONVERSION_COMMAND", (sys.executable, "-c", ENDLESS))


@pytest.mark.usefixtures("endless")
def test_closing_from_another_thread(home: Home, gguf_file: Path) -> None:
    conversion = home.convert({"x.gguf": home.put(gguf_file.read_bytes())})
    started(conversion)
    closer = threading.Thread(target=conversion.close)
    closer.start()
    assert all(progress.status == "converting model" for progress in conversion)
    closer.join()
    assert home.is_clean()


def test_closing_does_not_wait_for_a_hash(home: Home, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = home.convert({"x.gguf": home.put(gguf_file.read_bytes())})
    is_hashing, may_go_on = threading.Event(), threading.Event()

    def add_file(path: str) -> str:
        is_hashing.set()
        assert may_go_on.wait(300)
        return "0" * 64

    monkeypatch.setattr(home.blobs, "add_file", add_file)
    reader = threading.Thread(target=list, args=(conversion,))
    reader.start()
    assert is_hashing.wait(300)
    closer = threading.Thread(target=conversion.close)
    closer.start()
    closer.join(60)
    assert not closer.is_alive()
    may_go_on.set()
    reader.join()
    assert conversion.files == {}
    assert home.is_clean()


def test_one_waits_for_another(home: Home, gguf_file: Path) -> None:
    files = {"x.gguf": home.put(gguf_file.read_bytes())}
    first, second, third = (home.convert(files) for _ in range(3))
    started(first)
    assert [next(second).status for _ in range(2)] == ["parsing GGUF", "waiting for another conversion"]
    assert [next(third).status for _ in range(2)] == ["parsing GGUF", "waiting for another conversion"]
    third.close()
    assert len(list(home.path.glob("conversions/*"))) == 1
    first.close()
    assert "converting model" in {progress.status for progress in second}
    assert second.files
    assert home.is_clean()


@pytest.mark.usefixtures("endless")
def test_a_child_that_dies_is_an_error(home: Home, gguf_file: Path) -> None:
    files = {"x.gguf": home.put(gguf_file.read_bytes())}
    for number, error in ((signal.SIGKILL, TransferError), (signal.SIGXCPU, InvalidRequestError)):
        conversion = home.convert(files)
        os.kill(started(conversion), number)
        with pytest.raises(error):
            list(conversion)
        assert home.is_clean()


MAKE_ENDLESS = f"""
import sys
from hugging_llama_config import launch
launch.CONVERSION_COMMAND = (sys.executable, "-c", {ENDLESS!r})
"""
PARENT = """
import sys
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.conversion import convert_files
from hugging_llama_config.settings import Settings
home, digest = sys.argv[1:]
for progress in convert_files(Settings(home=home), Blobs(home), {"x.gguf": digest}):
    print(progress.status, flush=True)
"""


UNDER_GEVENT = """
import gevent.monkey
gevent.monkey.patch_all(subprocess=False, signal=False, os=False)
import sys, gevent
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.conversion import convert_files
from hugging_llama_config.settings import Settings
home, digest = sys.argv[1:]
"""
CLOSE = """
conversion = convert_files(Settings(home=home), Blobs(home), {"x.gguf": digest})
while next(conversion).status != "converting model":
    pass
gevent.spawn_later(0.05, conversion.close)
print({progress.status for progress in conversion} <= {"converting model"}, conversion.files)
"""


def test_closing_under_gevent(home: Home, gguf_file: Path) -> None:
    arguments = [str(home.path), home.put(gguf_file.read_bytes())]
    command = [sys.executable, "-c", UNDER_GEVENT + MAKE_ENDLESS + CLOSE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True {}\n"
    assert home.is_clean()


def test_a_parent_that_is_killed_takes_the_child_along(home: Home, gguf_file: Path) -> None:
    digest = home.put(gguf_file.read_bytes())
    command = [sys.executable, "-c", MAKE_ENDLESS + PARENT, str(home.path), digest]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert any("converting" in line for line in parent.stdout), "it ended before the conversion began"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 1
        parent.kill()
    until(lambda: not is_alive(int(children[0])))
    assert home.is_clean()


def test_what_a_power_cut_left_goes(home: Home, gguf_file: Path) -> None:
    left = home.path / "conversions" / "left"
    worked_in = home.path / "conversions" / "locked"
    for folder in (left, worked_in):
        (folder / "target").mkdir(parents=True)
        (folder / "target" / "model.safetensors").write_bytes(b"x")
        os.utime(folder, (0, 0))
    lock = os.open(worked_in, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    conversion_folder.ConversionFolder(str(home.path), {}).remove()
    os.close(lock)
    assert [folder.name for folder in home.path.glob("conversions/*")] == ["locked"]


def test_a_full_disk(home: Home, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"x.gguf": home.put(gguf_file.read_bytes())}
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(TransferError, match="1 KB are free"):
            list(home.convert(files))
    with monkeypatch.context() as patch:

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device", "/secret")

        patch.setattr("os.mkdir", full)
        with pytest.raises(TransferError, match="no space"):
            list(home.convert(files))
    assert home.is_clean()


@pytest.mark.parametrize("name", ["link", "folder", "..x", "a\nb"])
def test_only_plain_files_are_taken_from_a_child(home: Home, name: str) -> None:
    folder = conversion_folder.ConversionFolder(str(home.path), {})
    try:
        place = Path(folder.target, name)
        if name == "link":
            place.symlink_to("/etc/passwd")
        elif name == "folder":
            place.mkdir()
        else:
            place.write_bytes(b"")
        with pytest.raises(ValueError, match="file"):
            folder.results()
    finally:
        folder.remove()


def limit(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/limits").read_text().split(name)[1].split()[0]


@pytest.mark.usefixtures("endless")
def test_a_child_has_limits_and_no_secrets(home: Home, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    conversion = home.convert({"x.gguf": home.put(gguf_file.read_bytes())}, hub_token="secret")
    pid = started(conversion)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    until(lambda: limit(pid, "Max file size") != "unlimited")
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert "unlimited" not in (limit(pid, "Max address space"), limit(pid, "Max cpu time"))
    conversion.close()
    assert b"secret" not in environment
    assert b"HF_HUB_OFFLINE=1" in environment
