"""Callers in the whole engine: whose request is prepared next, and what is told while a model is loaded."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hugging_llama.engine.engine import _INTAKE_THREADS, _INTAKE_THREADS_OF_MODEL
from hugging_llama.engine.intake import Intake
from hugging_llama.errors import EngineBusyError, EngineShutdownError, InsufficientMemoryError
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Embeddings, Finished, Progress, Started, TextDelta
from hugging_llama.neutral.requests import EmbedRequest
from tests.engine.clients import DEMO_REF, EMBED_REF, SETTINGS, WAIT_S, Clients, GatedLoad

MODEL = object()
BULK, OTHER = Caller("bulk"), Caller("other")


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


def test_requests_are_prepared_for_callers_in_turn() -> None:
    intake, may_go, done = Intake(1, "test"), threading.Event(), threading.Event()
    order: list[str] = []
    intake.submit(BULK, MODEL, lambda: order.append("first") if may_go.wait(WAIT_S) else None)
    for number in range(5):
        intake.submit(BULK, MODEL, lambda number=number: order.append(f"bulk {number}"))  # type: ignore[misc]
    intake.submit(OTHER, MODEL, lambda: order.append("other"))
    intake.submit(OTHER, MODEL, done.set)
    may_go.set()
    assert done.wait(WAIT_S)
    intake.close()
    assert order[:3] == ["first", "other", "bulk 0"]
    with pytest.raises(EngineShutdownError):
        intake.submit(OTHER, MODEL, done.set)


def test_one_model_never_has_all_threads() -> None:
    intake = Intake(4, "test", most_of_model=3)
    may_go, other, done = threading.Event(), threading.Event(), threading.Semaphore(0)
    running: set[int] = set()
    most: list[int] = []

    def slow(number: int) -> None:
        running.add(number)
        most.append(len(running))
        assert may_go.wait(60)
        running.discard(number)
        done.release()
        if number == 2:
            raise RuntimeError("it ends no thread")

    for number in range(6):
        intake.submit(BULK, MODEL, lambda number=number: slow(number))  # type: ignore[misc]
    intake.submit(BULK, object(), other.set)
    assert other.wait(60), "it goes on beside them"
    assert not any(done.acquire(blocking=False) for _ in range(6))
    may_go.set()
    assert all(done.acquire(timeout=60) for _ in range(6))
    assert max(most) <= 3
    intake.close()
    with pytest.raises(EngineShutdownError):
        intake.submit(BULK, MODEL, other.set)


def test_models_whose_work_never_ends_leave_threads_for_the_others() -> None:
    """As the expressions of a tokenizer may be, which nothing can end."""
    intake = Intake(_INTAKE_THREADS, "test", most_of_model=_INTAKE_THREADS_OF_MODEL)
    may_end, begun, other = threading.Event(), threading.Semaphore(0), threading.Event()

    def endless() -> None:
        begun.release()
        assert may_end.wait(60)

    for model in [object() for _ in range(8)]:
        for _ in range(_INTAKE_THREADS_OF_MODEL + 1):
            intake.submit(BULK, model, endless)
    assert all(begun.acquire(timeout=60) for _ in range(8 * _INTAKE_THREADS_OF_MODEL))
    intake.submit(BULK, object(), other.set)
    assert other.wait(60)
    assert not begun.acquire(blocking=False)
    may_end.set()
    intake.close()


def waited(event: threading.Event) -> None:
    assert event.wait(60)


def test_no_more_threads_are_started_than_a_model_may_use() -> None:
    intake, may_end = Intake(64, "test-few", most_of_model=2), threading.Event()
    for _ in range(50):
        intake.submit(BULK, MODEL, lambda: waited(may_end))
    assert sum(thread.name.startswith("test-few") for thread in threading.enumerate()) == 2
    may_end.set()
    intake.close()


def test_where_no_thread_can_be_started_others_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    intake, may_end, done = Intake(4, "test", most_of_model=2), threading.Event(), threading.Event()

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(InsufficientMemoryError):
            intake.submit(BULK, MODEL, done.set)
    intake.submit(BULK, MODEL, lambda: waited(may_end))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        intake.submit(BULK, MODEL, done.set)
    assert not done.is_set()
    may_end.set()
    assert done.wait(60)
    intake.close()


def test_a_load_is_told_to_those_who_ask() -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    asking = clients.send("x", tells_progress=True)
    silent = clients.send("x")
    gate.started.get(timeout=WAIT_S)
    clients.wait_for_text(asking)
    assert not clients.has_ended(asking)
    gate.may_go.set()
    told = [type(answer) for answer in clients.answers(asking)]
    assert clients.answers(asking)[0] == Progress(phase="load")
    assert told[-1] is Finished
    assert TextDelta in told
    assert not any(isinstance(answer, Progress) for answer in clients.answers(silent))
    again = clients.answers(clients.send("x", tells_progress=True))
    assert Progress(phase="load") not in again
    clients.engine.close()


def test_who_waits_for_the_place_of_another_model_is_in_the_queue_until_the_load() -> None:
    gate = GatedLoad()
    clients = Clients(replace(SETTINGS, max_loaded_models=1), load=gate)
    first = clients.send("x")
    gate.started.get(timeout=WAIT_S)
    waiting = clients.send("x", replace(DEMO_REF, quantization="int8"), tells_progress=True)
    silent = clients.send("x", replace(DEMO_REF, quantization="int8"))
    vectors = clients.key()
    clients.engine.embed(vectors, EmbedRequest(model=EMBED_REF, inputs=("a",)))
    gate.may_go.set()
    assert clients.text(first)
    told = [answer for answer in clients.answers(waiting) if isinstance(answer, Progress)]
    assert told[:2] == [Progress(phase="queue", position=1), Progress(phase="load")]
    assert told.count(Progress(phase="load")) == 1
    started = clients.answers(silent)[0]
    assert isinstance(started, Started)
    embedded = clients.answers(vectors)[-1]
    assert isinstance(embedded, Embeddings)
    for answer, place in ((started, 2), (embedded, 3)):
        assert answer.queued is not None
        assert answer.queued.position == place
        assert answer.queued.waited_ns > 0
    clients.engine.close()


def test_a_prompt_that_is_computed_in_pieces_is_told(clients: Clients) -> None:
    key = clients.send("one two three " * 300, tells_progress=True, context_length=2048)
    answers = clients.answers(key)
    told = [answer for answer in answers if isinstance(answer, Progress) and answer.phase == "prompt"]
    end = answers[-1]
    assert isinstance(end, Finished)
    assert told
    assert all(answer.total == end.usage.num_prompt_tokens for answer in told)
    assert answers.index(told[-1]) < next(i for i, answer in enumerate(answers) if isinstance(answer, TextDelta))


def test_callers_of_embeddings_are_known_to_the_runner(clients: Clients) -> None:
    keys = []
    for number in range(6):
        key = clients.key()
        caller = BULK if number < 5 else OTHER
        clients.engine.embed(key, EmbedRequest(model=EMBED_REF, inputs=("a", "b"), caller=caller))
        keys.append(key)
    assert all(isinstance(clients.answers(key)[-1], Embeddings) for key in keys)


def test_a_full_queue_of_models_is_refused_before_anything_is_told() -> None:
    gate = GatedLoad()
    clients = Clients(replace(SETTINGS, max_queue=1, max_loaded_models=1), load=gate)
    first = clients.send("x")
    gate.started.get(timeout=WAIT_S)
    clients.send("x", EMBED_REF, caller=OTHER)
    refused = clients.answers(clients.send("x", EMBED_REF, tells_progress=True, caller=OTHER))
    assert [type(answer) for answer in refused] == [EngineBusyError]
    gate.may_go.set()
    assert clients.text(first)
    clients.engine.close()


def test_generation_goes_on_with_callers(clients: Clients) -> None:
    alone = clients.text(clients.send("What is the capital of France?"))
    keys = [clients.send("What is the capital of France?", DEMO_REF, caller=caller) for caller in (BULK, BULK, OTHER)]
    assert [clients.text(key) for key in keys] == [alone] * 3
