"""A process on a pseudo-terminal, driven as a person drives it."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from fcntl import ioctl

# the child makes the pseudo-terminal its controlling one, so that Ctrl-C becomes a signal
_ATTACH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CTRL_C, CTRL_D = "\x03", "\x04"


class TerminalSession:
    """Runs `argv` on a terminal of `columns` by `rows`."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], *, columns: int = 80, rows: int = 24) -> None:
        self._leader, follower = pty.openpty()
        ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ATTACH, *argv],
            stdin=follower, stdout=follower, stderr=follower, env=dict(environ), start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self._seen = 0
        self.raw = ""

    def __enter__(self) -> "TerminalSession":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._leader)

    @property
    def text(self) -> str:
        """All output so far, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def send(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def expect(self, wanted: str, timeout_s: float = 60.0) -> str:
        """Wait until `wanted` is in the output that no earlier `expect` took; gives that output up to there."""
        deadline = time.monotonic() + timeout_s
        while (at := self.text.find(wanted, self._seen)) < 0:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{wanted!r} did not come; the terminal shows:\n{self.text[self._seen :]}")
        start, self._seen = self._seen, at + len(wanted)
        return self.text[start : self._seen]

    def press(self, key: str, wanted: str) -> None:
        """Press a key, again if need be, until `wanted` comes.

        readline takes no notice of a signal in the moment between its prompt and its waiting for a key.
        """
        for _ in range(30):
            self.send(key)
            try:
                self.expect(wanted, timeout_s=2.0)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{wanted!r} did not come")

    def finish(self, timeout_s: float = 60.0) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline - time.monotonic()):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._leader], [], [], max(0.0, timeout_s))
        if not ready:
            return False
        try:
            data = os.read(self._leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
