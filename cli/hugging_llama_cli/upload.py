"""Files of this machine on their way to the server: hashed, and sent unless it has them."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TextIO

from hugging_llama_cli.api import Server
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.plain import printable
from hugging_llama_cli.progress import PullProgress, pull_progress
from hugging_llama_config.units import format_bytes

_CHUNK_BYTES = 2**20

OnBytes = Callable[[int], None]


def upload_files(server: Server, files: Mapping[str, Path], stream: TextIO) -> dict[str, str]:
    """The digests (`sha256:…`) of the files by their names, once the server has them all. Raises CliError."""
    server.has("/")  # nobody waits for hashes that there is no server for
    with contextlib.closing(_Display(stream)) as display:
        digests = _hashed(files, display)
        for name, digest in digests.items():
            path = f"/api/blobs/{digest}"
            if not server.has(path):
                with _opened(files[name]) as file:
                    size = os.fstat(file.fileno()).st_size
                    server.upload(path, CountedFile(file, size, display.begin("uploading", name, size)))
    return digests


def _hashed(files: Mapping[str, Path], display: "_Display") -> dict[str, str]:
    count = f"{len(files)} file" if len(files) == 1 else f"{len(files)} files"
    on_bytes = display.begin("hashing", count, sum(_size(path) for path in files.values()))
    digests = {}
    for name, path in files.items():
        digest = hashlib.sha256()
        with _opened(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                on_bytes(len(chunk))
        digests[name] = f"sha256:{digest.hexdigest()}"
    return digests


class CountedFile:
    """A file that says how far it was read, and that has as many bytes as were announced or fails."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: OnBytes) -> None:
        self._file = file
        self._left = size
        self._on_bytes = on_bytes
        self.len = size  # where requests looks for the length of a body

    def read(self, length: int = -1) -> bytes:
        """The next bytes. Raises CliError if the file ends too early."""
        wanted = min(length, self._left) if length >= 0 else self._left
        data = self._file.read(wanted)
        if len(data) < wanted:  # the server would wait for the rest
            raise CliError(f"'{self._file.name}' became shorter while it was sent")
        self._left -= len(data)
        if data:
            self._on_bytes(len(data))
        return data


class _Display:
    """Bars on a terminal; elsewhere a line when a file's turn comes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: PullProgress | None = pull_progress(stream) if stream.isatty() else None

    def begin(self, verb: str, name: str, total: int) -> OnBytes:
        """Shows that something of `total` bytes begins; the result is told of its bytes as they go."""
        bars, done = self._bars, 0
        if bars is None:
            print(f"{verb} {printable(name)} ({format_bytes(total)})", file=self._stream, flush=True)

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            if bars is not None:
                bars.show({"status": verb, "file": f"{verb} {name}", "total": total, "completed": done})

        return on_bytes

    def close(self) -> None:
        if self._bars is not None:
            self._bars.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise CliError(f"'{path}' can't be read: {error.strerror}") from None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CliError(f"'{path}' can't be read: {error.strerror}") from None
