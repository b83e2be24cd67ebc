"""Which models are in memory, who uses them, and when they leave.

What holds at all times:
- One instance per path and quantization; requests for a model that is loading share that load and its failure.
- A model in use is never unloaded; one whose time is up leaves when its last request ends.
- At most `max_loaded` models are loaded, loading or leaving; who finds no room waits, callers in turn (`turns.py`).
- Loads take turns, and none begins while a model is leaving: only then is it known how much memory is free.
- No load begins that memory has no room for: idle models leave for it, it waits for busy ones, or it is refused.
- Every ticket that is not released before gets exactly one call of its `on_ready`.

Neither torch nor a clock is in here: both come as constructor arguments. No callback is called with the lock held.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from hugging_llama.engine.admission import MemoryGauge, Verdict, too_large
from hugging_llama.engine.instances import (
    Call,
    Instance,
    LoadFailure,
    Resident,
    State,
    Ticket,
    fail_calls,
    load_error,
    load_wait,
    place_in_queue,
    ready_calls,
    run_calls,
)
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.turns import CallerQueue
from hugging_llama.errors import EngineShutdownError, HuggingLlamaError, InsufficientMemoryError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Progress
from hugging_llama.neutral.models import ModelRef

_log = logging.getLogger(__name__)
_DEFAULT_MAX_LOADED = 3
_LOOK_AGAIN_S = 1.0

ModelT = TypeVar("ModelT")


class Registry(Generic[ModelT]):
    """Loaded models by the identity of their refs. Thread-safe; no method blocks.

    `load` makes a model of a ref or raises; `unload` ends it; both are run by `spawn`, each in a thread of its own.
    `clock` gives seconds. Without a `memory` gauge there is always room. `deadline_changed` is called when
    `expire` has to be called earlier than it has said.
    """

    def __init__(
        self,
        *,
        load: Callable[[ModelRef], ModelT],
        unload: Callable[[ModelT], None],
        spawn: Callable[[Call], None],
        clock: Callable[[], float],
        keep_alive_s: float,
        max_loaded: int = 0,
        max_queue: int = 512,
        memory: MemoryGauge[ModelT] | None = None,
        deadline_changed: Call = lambda: None,
    ) -> None:
        self._load = load
        self._unload = unload
        self._spawn = spawn
        self._clock = clock
        self._keep_alive_s = keep_alive_s
        self._max_loaded = max_loaded or _DEFAULT_MAX_LOADED
        self._max_queue = max(max_queue, 1)  # whose load is the next one waits for its room in any case
        self._memory = memory
        self._deadline_changed = deadline_changed
        self._lock = threading.Lock()
        self._instances: dict[tuple[str, str], Instance[ModelT]] = {}
        self._pending: CallerQueue[Ticket[ModelT]] = CallerQueue(lambda ticket: ticket.caller)
        self._pace = QueuePace(1)
        self._ticks = itertools.count()
        self._closing = False
        self.num_evicted = 0
        """Models that were sent away for others."""

    def acquire(
        self,
        ref: ModelRef,
        *,
        keep_alive_s: float | None,
        on_ready: "Callable[[ModelT | LoadFailure], None]",
        context_length: int | None = None,
        caller: Caller = ANONYMOUS,
    ) -> Ticket[ModelT]:
        """Asks for a model; `on_ready` gets it, from this thread or another. `release` the ticket in any case.

        `keep_alive_s` None keeps what the instance has. A load makes room for `context_length` tokens if it can.
        Raises EngineBusyError or EngineShutdownError.
        """
        ticket: Ticket[ModelT] = Ticket(ref, keep_alive_s, on_ready, context_length, caller)
        with self._lock:
            if self._closing:
                raise EngineShutdownError("the engine is shutting down")
            calls = self._attach(ticket)
            if calls is None:
                if not self._pending.has_room(caller, self._max_queue):
                    models = {ticket.ref.identity for ticket in self._pending}
                    raise self._pace.busy("the queue for models is full", len(self._pending), len(models))
                self._pending.append(ticket)
                calls = self._admit()
        run_calls(calls)
        return ticket

    def wait_for(self, ref: ModelRef, caller: Caller = ANONYMOUS) -> Progress | None:
        """What a request for it would wait for now; None if it is in memory, or the request would be refused."""
        with self._lock:
            num_pending = len(self._pending) if self._pending.has_room(caller, self._max_queue) else None
            place = place_in_queue(self._instances, ref, num_pending, self._max_loaded)
            return None if place is None else load_wait(place, self._pace.expected_s(place))

    def release(self, ticket: Ticket[ModelT]) -> None:
        """Ends a hold, or the wait for one. More than once is fine."""
        with self._lock:
            if ticket.is_released:
                return
            ticket.is_released = True
            if ticket in self._pending:
                self._pending.remove(ticket)
            instance = self._instances.get(ticket.ref.identity)
            if instance is not None:
                if ticket in instance.waiting:
                    instance.waiting.remove(ticket)
                instance.users.discard(ticket)
                if instance.is_idle:
                    instance.idle_since = self._clock()
            calls = self._expired() + self._admit()
        run_calls(calls)
        self._deadline_changed()

    def unload(self, ref: ModelRef) -> None:
        """Lets a model go: now if idle, else when its last request ends. One that is not there is fine."""
        with self._lock:
            if (instance := self._instances.get(ref.identity)) is not None:
                instance.keep_alive_s = 0.0
            calls = self._expired()
        run_calls(calls)

    def expire(self) -> float:
        """Lets go what has been idle for long enough, and begins a load that waits for memory if that is free now:
        forwards and other processes give it back without a word. Returns the seconds until it should be called again.
        """
        with self._lock:
            calls = self._expired() + self._admit(may_refuse=False)
            left = [i.expires_in_s(self._clock()) for i in self._instances.values() if i.is_idle]
            left += [_LOOK_AGAIN_S for i in self._instances.values() if i.state is State.PARKED]
        run_calls(calls)
        return min(left, default=math.inf)

    def residents(self) -> list[Resident[ModelT]]:
        """Models in memory or on their way there, the latest used first."""
        with self._lock:
            shown = [instance for instance in self._instances.values() if instance.state is not State.LEAVING]
            shown.sort(key=lambda instance: -instance.last_used)
            return [Resident(i.last_ref, i.model, i.ref_count, i.expires_in_s(self._clock())) for i in shown]

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a model."""
        with self._lock:
            return len(self._pending) + sum(len(instance.waiting) for instance in self._instances.values())

    def close(self) -> None:
        """Fails all waits with EngineShutdownError and unloads all models, in use or not, in this thread.

        A model that is still loading is unloaded by its own thread when it is there.
        """
        with self._lock:
            self._closing = True
            calls = fail_calls(list(self._pending), EngineShutdownError("the engine is shutting down"))
            self._pending.clear()
            for instance in list(self._instances.values()):
                calls += fail_calls(instance.waiting, EngineShutdownError("the engine is shutting down"))
                instance.waiting = []
                if instance.state is State.LOADED:
                    instance.state = State.LEAVING
                    calls.append(partial(self._run_unload, instance))
                elif instance.state is State.PARKED:
                    del self._instances[instance.ref.identity]
        run_calls(calls)

    def _attach(self, ticket: Ticket[ModelT]) -> list[Call] | None:
        """Gives the ticket the instance of its ref; None if there is none that stays."""
        instance = self._instances.get(ticket.ref.identity)
        if instance is None or instance.state is State.LEAVING:
            return None
        instance.last_used = next(self._ticks)
        instance.last_ref = ticket.ref
        if ticket.keep_alive_s is not None:
            instance.keep_alive_s = ticket.keep_alive_s
        if instance.model is None:
            instance.waiting.append(ticket)
            return []
        instance.users.add(ticket)
        return ready_calls([ticket], instance.model)

    def _admit(self, *, may_refuse: bool = True) -> list[Call]:
        """Starts the next load if there is room, makes room where it can, and gives loaded models to who waits."""
        calls = self._place_parked(may_refuse)
        while (ticket := self._pending.first()) is not None and not self._closing:
            attached = self._attach(ticket)
            if attached is not None:
                self._pending.take(ticket)
                calls += attached
                continue
            if any(instance.is_moving or instance.state is State.PARKED for instance in self._instances.values()):
                return calls  # room is on its way, or another's turn
            if len(self._instances) >= self._max_loaded:
                return calls + self._evict(self._idle()[:1])  # if all are busy, the first one to end follows
            calls.append(self._start(ticket))
        return calls

    def _start(self, ticket: Ticket[ModelT]) -> Call:
        instance: Instance[ModelT] = Instance(
            ticket.ref, ticket.ref, self._keep_alive_s, next(self._ticks), ticket.context_length, self._clock()
        )
        self._instances[ticket.ref.identity] = instance
        work = self._run_load if self._memory is None else self._run_measure
        return lambda: self._spawn_for(instance, work)

    def _place_parked(self, may_refuse: bool) -> list[Call]:
        """Begins the load that waits for memory, sends idle models away for it, or gives it up; without `may_refuse`
        only where nothing is left that gives memory back."""
        instance = next((i for i in self._instances.values() if i.state is State.PARKED), None)
        if instance is None or instance.need is None or self._memory is None:
            return []
        if not instance.waiting:  # those who wanted it have left
            del self._instances[instance.ref.identity]
            return []
        if any(other.is_moving for other in self._instances.values()):
            return []
        idle = self._idle()
        busy = [i.model for i in self._instances.values() if i.model is not None and i not in idle]
        decision = self._memory.decide(instance.need, [i.model for i in idle if i.model is not None], busy)
        if decision.verdict is Verdict.LOAD:
            instance.state, instance.load_began = State.LOADING, self._clock()
            return [lambda: self._spawn_for(instance, self._run_load)]
        if decision.verdict is Verdict.REFUSE and (may_refuse or decision.is_final):
            del self._instances[instance.ref.identity]
            return fail_calls(instance.waiting, too_large(instance.need.least_bytes, decision.room_bytes))
        return self._evict(idle[: decision.num_evicted])

    def _spawn_for(self, instance: Instance[ModelT], work: Callable[[Instance[ModelT]], None]) -> None:
        try:
            self._spawn(lambda: work(instance))
        except Exception as error:
            if instance.state is State.LEAVING:  # which others wait for: in this thread, then
                work(instance)
            else:
                self._failed(instance, load_error(error))

    def _idle(self) -> list[Instance[ModelT]]:
        """Idle models in the order in which they are sent away: those that are kept for the shortest time first."""
        return sorted((i for i in self._instances.values() if i.is_idle), key=lambda i: (i.keep_alive_s, i.last_used))

    def _evict(self, instances: list[Instance[ModelT]]) -> list[Call]:
        self.num_evicted += len(instances)
        return [self._unload_later(instance) for instance in instances]

    def _expired(self) -> list[Call]:
        left = [i for i in self._instances.values() if i.is_idle and i.expires_in_s(self._clock()) <= 0]
        return [self._unload_later(instance) for instance in left]

    def _unload_later(self, instance: Instance[ModelT]) -> Call:
        instance.state = State.LEAVING
        return partial(self._spawn_for, instance, self._run_unload)

    def _run_unload(self, instance: Instance[ModelT]) -> None:
        model, instance.model = instance.model, None
        try:
            if model is not None:
                self._unload(model)
        except Exception:
            _log.exception("a model could not be unloaded cleanly")
        del model
        with self._lock:
            del self._instances[instance.ref.identity]
            calls = self._admit()
        run_calls(calls)

    def _run_measure(self, instance: Instance[ModelT]) -> None:
        """Finds out what the model needs; from then on it waits for that."""
        assert self._memory is not None
        try:
            need = self._memory.need(instance.ref, instance.context_length)
        except Exception as error:
            self._failed(instance, load_error(error))
            return
        with self._lock:
            if self._closing:
                del self._instances[instance.ref.identity]
                return
            instance.need, instance.state = need, State.PARKED
            calls = self._admit()
            if instance.state is State.PARKED and self._instances.get(instance.ref.identity) is instance:
                calls = [partial(self._memory.parked, instance.ref), *calls, self._deadline_changed]
        run_calls(calls)

    def _run_load(self, instance: Instance[ModelT]) -> None:
        try:
            model = self._load(instance.ref)
        except Exception as error:
            self._failed(instance, load_error(error))
        else:
            self._succeeded(instance, model)

    def _succeeded(self, instance: Instance[ModelT], model: ModelT) -> None:
        with self._lock:
            instance.model = model
            instance.state = State.LOADED
            instance.idle_since = self._clock()
            self._pace.observe(instance.idle_since - instance.load_began)
            tickets, instance.waiting = instance.waiting, []
            instance.users.update(tickets)
            calls = [self._unload_later(instance)] if self._closing else ready_calls(tickets, model)
            calls += self._expired() + self._admit()
        run_calls(calls)
        self._deadline_changed()

    def _failed(self, instance: Instance[ModelT], error: HuggingLlamaError) -> None:
        """Those who wait fail; but if memory was short and others leave, or can be sent away, they queue up again."""
        with self._lock:
            del self._instances[instance.ref.identity]
            is_short = isinstance(error, InsufficientMemoryError) and not self._closing
            calls = self._evict([other for other in self._instances.values() if is_short and other.is_idle])
            if is_short and any(other.state is State.LEAVING for other in self._instances.values()):
                for ticket in reversed(instance.waiting):
                    self._pending.put_back(ticket)
            else:
                calls += fail_calls(instance.waiting, error)
            calls += self._admit()
        run_calls(calls)
