"""What systemd is told and gives: notifications, the watchdog, sockets that it opened. Nothing without systemd."""

import contextlib
import os
import socket
import time
from dataclasses import dataclass

_FIRST_SOCKET = 3


def notify(state: str) -> None:
    """Tell systemd of this service (sd_notify(3)); who does not listen misses it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # an abstract address is written with an @
    address = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sink:
        # a manager that is busy must not stop us
        sink.settimeout(1.0)
        sink.sendto(state.encode(), address)


def notify_reloading() -> None:
    """A reload begins; READY=1 ends it. The time is what systemd tells one reload from the next by."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def inherited_hosts() -> list[str] | None:
    """Where the sockets of a socket unit listen, None if there are none. Before gunicorn takes them over."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    hosts = []
    for descriptor in range(_FIRST_SOCKET, _FIRST_SOCKET + int(os.environ.get("LISTEN_FDS", "0"))):
        with socket.socket(fileno=os.dup(descriptor)) as listener:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                hosts.append(str(listener.getsockname()[0]))
    return hosts


@dataclass(slots=True)
class Watchdog:
    """Says that the process still turns, a few times in the time after which systemd would replace it."""

    interval_s: float
    _last_s: float = 0.0

    def beat(self) -> None:
        """From the loop that is to be watched, as often as it likes."""
        now_s = time.monotonic()
        if now_s - self._last_s >= self.interval_s:
            self._last_s = now_s
            notify("WATCHDOG=1")


def watchdog() -> Watchdog | None:
    """What WatchdogSec= of the unit asks of this process, None without it."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return Watchdog(int(microseconds) / 1e6 / 4)
