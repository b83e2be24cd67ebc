"""Clients, a killer and a look at the server now and then, all at once."""

import shutil
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.soak.clients import PULL_END, asks
from tests.soak.exchange import Ask, End, Outcome, send
from tests.soak.killer import Kill, Killer
from tests.soak.measures import Measure, measure_at_rest, measure_loaded
from tests.soak.world import PULLED, World, world

_HEALTH = Ask("health", "/health", method="GET")
_HEALTH_EVERY_S = 0.1
_THINKS_S = 0.1
_TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how many, how often. For a measure the engine begins anew, is left in peace for `aged_s`, looked at for
    `looked_s` and then at rest; that time comes on top of `seconds`. A `kill_every_s` of 0 kills nobody."""

    seconds: float
    clients: int
    kill_every_s: float
    measure_every_s: float
    seed: int
    aged_s: float = 60.0
    looked_s: float = 60.0


@dataclass(slots=True)
class Record:
    """All that a run has seen. `loaded` are measures beside the clients, the others without them."""

    outcomes: list[Outcome] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    loaded: list[Measure] = field(default_factory=list)
    marks: list[Measure] = field(default_factory=list)
    before: Measure | None = None
    after: Measure | None = None
    leftover_files: list[str] = field(default_factory=list)
    leftover_processes: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


def soak(plan: Plan, keep_log: Path | None = None) -> Record:
    """A server from its start to its end, under load and fire; `keep_log` is where its log goes."""
    record = Record()
    with world() as here:
        record.before = measure_at_rest(here)
        _fire(here, plan, record)
        record.after = _look_after(here, record)
        _end_pulls(here, record)
        record.leftover_files = here.leftovers()
        server = here
        if keep_log is not None:
            shutil.copyfile(here.server.log, keep_log)
    record.leftover_processes = [" ".join(process.cmdline()) for process in server.processes()]
    return record


def _fire(here: World, plan: Plan, record: Record) -> None:
    stopping, asking = threading.Event(), threading.Event()
    asking.set()
    killer = Killer(here, plan.kill_every_s, plan.seed)
    clients = [
        threading.Thread(target=_ask_on, args=(here, plan.seed * 100_000 + number, stopping, asking, record))
        for number in range(plan.clients)
    ]
    clients.append(threading.Thread(target=_poll, args=(here, stopping, record.outcomes)))
    for client in clients:
        client.start()
    if plan.kill_every_s:
        killer.start()
    try:
        _mark(here, plan, killer, asking, record)
    finally:
        killer.stop()
        stopping.set()
        asking.set()
        for client in clients:
            client.join()
    record.kills = killer.kills
    record.outcomes = [_judged(outcome, killer) for outcome in record.outcomes]


def _mark(here: World, plan: Plan, killer: Killer, asking: threading.Event, record: Record) -> None:
    """Measures until the time is over, the last one at its end, and a line each minute."""
    began_at = time.monotonic()
    measuring_s, due_s = 0.0, plan.measure_every_s
    while (under_fire_s := time.monotonic() - began_at - measuring_s) < plan.seconds or due_s <= plan.seconds:
        time.sleep(max(0.0, min(_TELL_EVERY_S, min(due_s, plan.seconds) - under_fire_s)))
        if time.monotonic() - began_at - measuring_s >= due_s:
            due_s += plan.measure_every_s
            with killer.pause:
                paused_at = time.monotonic()
                _measure_aged(here, plan, killer, asking, record)
                measuring_s += time.monotonic() - paused_at
        _tell(record, time.monotonic() - began_at)


def _measure_aged(here: World, plan: Plan, killer: Killer, asking: threading.Event, record: Record) -> None:
    if plan.kill_every_s:
        killer.kill("engine")
        time.sleep(plan.aged_s)  # under load: a warm engine is larger than a new one
    try:
        record.loaded.append(measure_loaded(here, plan.looked_s))
        asking.clear()
        record.marks.append(measure_at_rest(here))
    except TimeoutError as error:
        record.trouble.append(str(error))
    finally:
        asking.set()


def _tell(record: Record, seconds: float) -> None:
    lost = sum(outcome.end is End.LOST for outcome in record.outcomes)
    memory = f"{record.marks[-1].total_bytes / 2**20:.0f} MiB" if record.marks else "not measured"
    line = f"{seconds:.0f} s: {len(record.outcomes)} requests, {lost} lost, memory {memory}"
    print(line, file=sys.stderr, flush=True)


def _ask_on(here: World, seed: int, stopping: threading.Event, asking: threading.Event, record: Record) -> None:
    for ask in asks(seed):
        asking.wait()
        record.outcomes.append(send(here.port, ask))
        if stopping.wait(_THINKS_S):
            return


def _poll(here: World, stopping: threading.Event, outcomes: list[Outcome]) -> None:
    while not stopping.wait(_HEALTH_EVERY_S):
        outcomes.append(send(here.port, _HEALTH))


def _judged(outcome: Outcome, killer: Killer) -> Outcome:
    """A cut connection that no killed worker explains is lost."""
    if outcome.end is not End.CUT or killer.explains(outcome):
        return outcome
    return replace(outcome, end=End.LOST)


def _end_pulls(here: World, record: Record) -> None:
    """What a pull has left half done is kept for the next one, which must come to an end."""
    for model in PULLED:
        outcome = send(here.port, Ask("pulls", "/api/pull", {"model": model}, last=PULL_END))
        if outcome.end is not End.ANSWER:
            record.trouble.append(f"{model} can't be pulled at the end: {outcome.detail}")


def _look_after(here: World, record: Record) -> Measure | None:
    """Once nothing is asked any more."""
    try:
        return measure_at_rest(here)
    except TimeoutError as error:
        record.trouble.append(str(error))
        return None
