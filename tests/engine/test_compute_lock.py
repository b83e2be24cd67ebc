"""Whose turn it is to compute: in the order of asking, and nobody waits for ever for a stranger's forward."""

import threading
from collections.abc import Callable
from typing import Any

import torch

from hugging_llama.engine.compute_lock import COMPUTE_LOCK, MPS_LOCK, ComputeLock
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.engine.model_runner import compute_guard
from hugging_llama.neutral.events import Embeddings
from hugging_llama.neutral.requests import EmbedRequest
from tests.engine.clients import DEMO_REF, EMBED_REF, SETTINGS, WAIT_S, Clients


class Worker:
    """A thread that has a turn when it gets one, and ends it when it is told to."""

    def __init__(self, lock: ComputeLock, order: list[str], name: str) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self._lock, self._order, self._name = lock, order, name
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._lock:
            self._order.append(self._name)
            self.has_begun.set()
            assert self.may_end.wait(WAIT_S)

    def begins(self) -> "Worker":
        assert self.has_begun.wait(WAIT_S)
        return self

    def ends(self) -> None:
        self.may_end.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    changed = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        changed.wait(0.001)
    raise AssertionError("it never came true")


def test_who_waits_too_long_computes_beside_the_holder() -> None:
    lock, order = ComputeLock(patience_s=0.01), list[str]()
    long = Worker(lock, order, "long").begins()
    first = Worker(lock, order, "first").begins()
    second = Worker(lock, order, "second").begins()
    assert order == ["long", "first", "second"]
    for worker in (first, second, long):
        worker.ends()
    with lock:
        assert lock.num_waiting == 0


def test_who_has_lost_the_turn_does_not_give_it_away() -> None:
    lock, order = ComputeLock(patience_s=0.01), list[str]()
    long = Worker(lock, order, "long").begins()
    first = Worker(lock, order, "first").begins()
    lock._patience_s = lock._ends_at = float("inf")  # from now on everybody waits
    third = Worker(lock, order, "third")
    wait_until(lambda: lock.num_waiting == 1)
    long.ends()
    assert lock.num_waiting == 1
    assert not third.has_begun.is_set()
    first.ends()
    third.begins().ends()
    assert order == ["long", "first", "third"]


def test_a_turn_that_nobody_waits_for_has_no_end() -> None:
    lock, order = ComputeLock(patience_s=0.0), list[str]()
    with lock:
        assert lock._holder == threading.get_ident()
    lone = Worker(lock, order, "lone").begins()
    lone.ends()
    assert lock._holder is None


def test_a_free_turn_is_no_ones_who_is_still_computing() -> None:
    """What comes after the one that has waited does not wait again for the long one."""
    lock, order = ComputeLock(patience_s=0.01), list[str]()
    long = Worker(lock, order, "long").begins()
    Worker(lock, order, "first").begins().ends()
    lock._patience_s = float("inf")
    for name in ("second", "third"):
        Worker(lock, order, name).begins().ends()
    long.ends()
    assert order == ["long", "first", "second", "third"]


def test_without_patience_told_everybody_waits() -> None:
    lock, order = ComputeLock(), list[str]()
    first = Worker(lock, order, "first").begins()
    others = []
    for number in range(3):
        others.append(Worker(lock, order, str(number)))
        wait_until(lambda number=number: lock.num_waiting == number + 1)  # type: ignore[misc]
    first.ends()
    for other in others:
        other.begins()
        assert sum(each.has_begun.is_set() and not each.may_end.is_set() for each in others) == 1
        other.ends()
    assert order == ["first", "0", "1", "2"]


def test_never_two_where_everybody_waits() -> None:
    lock, running, most = ComputeLock(), list[int](), list[int]()

    def run(number: int) -> None:
        for _ in range(300):
            with lock:
                running.append(number)
                most.append(len(running))
                running.remove(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert max(most) == 1
    assert len(most) == 1200


def test_devices() -> None:
    """Torch's streams on MPS don't bear two threads at once."""
    assert compute_guard(torch.device("cpu")) is COMPUTE_LOCK
    assert compute_guard(torch.device("mps")) is MPS_LOCK
    assert MPS_LOCK._patience_s == float("inf")


def test_a_long_forward_holds_no_other_model_up() -> None:
    loader = Loader(SETTINGS)
    reached, may_go = threading.Event(), threading.Event()

    def held(*_: Any) -> None:
        reached.set()
        assert may_go.wait(WAIT_S)

    def load(path: str, quantization: str) -> Checkpoint:
        found = loader.load(path, quantization)
        if path == EMBED_REF.path:
            found.model[0].register_forward_pre_hook(held)
        return found

    clients = Clients(load=load)
    try:
        expected = clients.text(clients.send("hello"))
        embedding = clients.key()
        clients.engine.embed(embedding, EmbedRequest(model=EMBED_REF, inputs=("a long text",)))
        assert reached.wait(WAIT_S)
        assert [clients.text(clients.send("hello")) for _ in range(3)] == [expected] * 3
        assert not clients.has_ended(embedding)
        may_go.set()
        assert isinstance(clients.answers(embedding)[-1], Embeddings)
        assert sorted(clients.names) == sorted([DEMO_REF.name, EMBED_REF.name])
    finally:
        may_go.set()
        clients.engine.close()
