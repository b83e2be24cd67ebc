"""Kills a random process now and then, and measures how long nobody was served."""

import contextlib
import random
import signal
import threading
import time
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from tests.soak.exchange import Ask, End, Outcome, send
from tests.soak.world import DEMO, World

ROLES = ("engine", "standby", "supervisor", "worker")
# a request in flight ends when its worker does; a busy client needs a moment to see it
_SEEN_WITHIN_S = 5.0
_PROBE = Ask("probe", "/api/generate", {"model": DEMO, "prompt": "x", "stream": False, "options": {"num_predict": 1}})


@dataclass(frozen=True, slots=True)
class Kill:
    """`recovery_s`: until a request that came after it was answered."""

    role: str
    at: float
    recovery_s: float


class Killer:
    """Kills by the clock in a thread of its own until `stop`, whether the last one killed is back or not. Who holds
    `pause` is not disturbed meanwhile."""

    def __init__(self, world: World, interval_s: float, seed: int) -> None:
        self.pause = threading.Lock()
        self.kills: list[Kill] = []
        self._times: dict[str, list[float]] = {role: [] for role in ROLES}
        self._world = world
        self._interval_s = interval_s
        self._rng = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")
        self._probes: list[threading.Thread] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for probe in self._probes:
            probe.join()

    def explains(self, outcome: Outcome) -> bool:
        """Whether a worker was killed while this request was on its way."""
        return any(
            outcome.began_at - 0.5 <= at <= outcome.ended_at and outcome.ended_at - at <= _SEEN_WITHIN_S
            for at in self._times["worker"]
        )

    def _run(self) -> None:
        due_at = time.monotonic() + self._interval_s
        while not self._stopping.wait(max(0.0, due_at - time.monotonic())):
            with self.pause:
                if not self._stopping.is_set():
                    roles = self._world.by_role()
                    self.kill(self._rng.choice([role for role in ROLES if roles.get(role)]))
            due_at += self._interval_s
            if due_at < time.monotonic():  # after a pause
                due_at = time.monotonic() + self._interval_s

    def kill(self, role: str) -> None:
        """One process of this role, if there is one. By the thread that holds `pause`."""
        if not (some := self._world.by_role().get(role)):
            return
        at = time.monotonic()
        self._times[role].append(at)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._rng.choice(some).send_signal(signal.SIGKILL)
        probe = threading.Thread(target=self._probe, args=(role, at))
        self._probes.append(probe)
        probe.start()

    def _probe(self, role: str, at: float) -> None:
        while send(self._world.port, _PROBE).end is not End.ANSWER:
            time.sleep(0.05)
        self.kills.append(Kill(role, at, time.monotonic() - at))
