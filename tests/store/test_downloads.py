"""Several files at once: order, failures, and that nobody has to ask for anything to go on."""

import contextlib
import threading
from collections.abc import Generator, Iterator

import pytest

from hugging_llama.errors import TransferError
from hugging_llama.store.downloads import Downloads, Fetch, Wait
from hugging_llama.store.hub import RemoteFile

FILES = [RemoteFile(f"{number}.bin", number + 1, "0" * 40) for number in range(10)]


class _Source:
    """Gives files of two steps; `hold` are paths that wait to be released or stopped."""

    def __init__(self, hold: tuple[str, ...] = (), broken: str = "") -> None:
        self.hold, self.broken = hold, broken
        self.release = threading.Event()
        self.done: list[str] = []
        self.is_all_done = threading.Event()
        self.connections = 0
        self.closed = 0

    @contextlib.contextmanager
    def connect(self) -> Iterator[Fetch]:
        self.connections += 1
        try:
            yield self.fetch
        finally:
            self.closed += 1

    def fetch(self, file: RemoteFile, wait: Wait) -> Generator[int, None, None]:
        yield 0
        if file.path == self.broken:
            raise TransferError(f"{file.path} is broken", cause="test")
        while file.path in self.hold and not self.release.is_set():
            wait(0.01)
            yield 0
        yield file.size_bytes
        self.done.append(file.path)
        if len(self.done) == len(FILES):
            self.is_all_done.set()


def test_files_arrive_without_anybody_asking() -> None:
    source = _Source()
    with Downloads(FILES, source.connect) as downloads:
        assert source.is_all_done.wait(60)
        assert downloads.wait(60)
        assert downloads.arrived() == {file.path: file.size_bytes for file in FILES}
    assert source.connections == source.closed == 4


def test_a_slow_file_holds_up_no_other() -> None:
    source = _Source(hold=("0.bin",))
    with Downloads(FILES, source.connect) as downloads:
        while len(source.done) < len(FILES) - 1:
            assert not downloads.wait(0.01)
        source.release.set()
        assert downloads.wait(60)


def test_the_first_failure_stops_all() -> None:
    source = _Source(hold=("0.bin", "1.bin"), broken="2.bin")
    with Downloads(FILES, source.connect) as downloads, pytest.raises(TransferError, match=r"2\.bin is broken"):
        downloads.wait(60)
    assert not {"0.bin", "1.bin", "2.bin"} & set(source.done)
    assert source.closed == source.connections


def test_leaving_stops_what_is_under_way() -> None:
    source = _Source(hold=tuple(file.path for file in FILES))
    with Downloads(FILES, source.connect) as downloads:
        assert not downloads.wait(0.0)
    assert source.done == []
    assert source.closed == source.connections == 4


def test_no_more_threads_than_files() -> None:
    source = _Source()
    with Downloads(FILES[:2], source.connect) as downloads:
        assert downloads.wait(60)
    assert source.connections == 2
    with Downloads([], source.connect) as downloads:
        assert downloads.wait(60)
        assert downloads.arrived() == {}
