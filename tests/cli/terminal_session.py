"""A process on a pseudo-terminal, driven as a person drives it, with the screen that this person sees."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl

import pyte

# the child makes the pseudo-terminal its controlling one, so that Ctrl-C becomes a signal
_ATTACH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIMEOUT_S = 60.0
CTRL_C, CTRL_D, CTRL_G = "\x03", "\x04", "\x07"
IDLE_PROMPT = ">>> Send a message (/? for help)"
UP, TAB = "\x1b[A", "\t"


class _Screen(pyte.HistoryScreen):
    """Keeps what has scrolled off, and answers where its cursor is, as real terminals do."""

    def __init__(self, columns: int, rows: int, leader: int) -> None:
        super().__init__(columns, rows, history=10000, ratio=0.5)
        self._leader = leader

    def write_process_input(self, data: str) -> None:
        os.write(self._leader, data.encode())

    def everything(self) -> list[str]:
        """All lines, also those that have scrolled off."""
        above = ["".join(line[x].data for x in range(self.columns)).rstrip() for line in self.history.top]
        return [*above, *(line.rstrip() for line in self.display)]


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
        self._screen = _Screen(columns, rows, self._leader)
        self._stream = pyte.ByteStream(self._screen)
        self._seen = self._row = 0
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

    @property
    def screen(self) -> str:
        """What is to be seen, with what has scrolled off, without empty lines at the end."""
        return "\n".join(self._screen.everything()).rstrip("\n")

    def send(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def expect(self, wanted: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Wait until `wanted` is in the output that no earlier `expect` took; gives that output up to there."""
        deadline = time.monotonic() + timeout_s
        while (at := self.text.find(wanted, self._seen)) < 0:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{wanted!r} did not come; the terminal shows:\n{self.text[self._seen :]}")
        start, self._seen = self._seen, at + len(wanted)
        return self.text[start : self._seen]

    def expect_screen(self, wanted: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Wait until the screen ends with `wanted`; gives it from the row on in which an earlier wait ended."""
        return self._wait(lambda shown: shown.endswith(wanted), wanted, timeout_s)

    def say(self, text: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Type a line behind the prompt of a chat, and wait for the next prompt; gives what is shown between them."""
        before, after = f">>> {text}\n", IDLE_PROMPT
        self.send(text + "\r")
        shown = self._wait(
            lambda shown: shown.startswith(before) and f"\n{shown}".endswith(f"\n{after}"),
            f"{before}…{after}",
            timeout_s,
        )
        return shown.removeprefix(before).removesuffix(after)

    def _wait(self, is_there: Callable[[str], bool], wanted: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while not is_there(shown := "\n".join(self.screen.split("\n")[self._row :])):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{wanted!r} did not come; the screen shows:\n{self.screen}")
        self._row += shown.count("\n")
        return shown

    def finish(self, timeout_s: float = _TIMEOUT_S) -> int:
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
        self._stream.feed(data)
        return bool(data)
