"""The engine as its server sees it: requests go in, answers come out through `emit`.

What holds at all times:
- No method blocks on a model: loading, rendering and unloading happen in threads of their own.
- Every request ends once: in Finished, its one answer, or an error. A cancelled one without a stream just ends.
- Until a runner has accepted a request, its end is decided here; from then on by the runner.
"""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable

from hugging_llama.engine import memory
from hugging_llama.engine.admission import MemoryGauge, MemoryNeed
from hugging_llama.engine.attention_memory import FORWARD_MEMORY
from hugging_llama.engine.entry import Entry, Request, load_told, park_told, wait_told
from hugging_llama.engine.expiry import ExpiryTimer
from hugging_llama.engine.instances import LoadFailure, loading_row
from hugging_llama.engine.intake import Intake
from hugging_llama.engine.linear.native import has_native_linears
from hugging_llama.engine.load_threads import LoadThreads
from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.engine.panics import PanicError, panics_as_errors
from hugging_llama.engine.pooling_heads import empty_answer
from hugging_llama.engine.registry import Registry
from hugging_llama.engine.served_model import ServedModel, default_context_length
from hugging_llama.engine.stats import RunnerStats, added_stats
from hugging_llama.engine.status import LoadFigures, summed_status
from hugging_llama.engine.step_watch import StepWatch
from hugging_llama.errors import EngineShutdownError, GenerationError, HuggingLlamaError, ProtocolError
from hugging_llama.ipc.facade import Answer, Emit, Key
from hugging_llama.neutral.events import EngineStatus, Finished, FinishReason, Loaded
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TokenizeRequest,
)
from hugging_llama_config.model_memory import estimate, least_load_bytes
from hugging_llama_config.settings import Settings

_log = logging.getLogger(__name__)

_INTAKE_THREADS = 64
"""Started as they are needed: there are as many as models have work at once, and some for those that never end."""
_INTAKE_THREADS_OF_MODEL = 3
_SLOW_INTAKE_THREADS = 2
_LONGEST_CLOSE_S = 10.0
"""So long a close waits for loads that are under way: the interpreter can't end well beneath native code."""


class Engine:
    """The EngineFacade over real models. `emit` takes the answers; `load` is for tests: a directory to a Checkpoint.

    Raises ValueError for a device or dtype in `settings` that is not there.
    """

    def __init__(self, settings: Settings, emit: Emit, *, load: Callable[[str, str], Checkpoint] | None = None) -> None:
        self._settings = settings
        self._emit = emit
        self._loader = loader = Loader(settings)
        self._device = loader.device
        self._default_context = settings.context_length or default_context_length(loader.device)
        self._load_checkpoint = load or loader.load
        self._lock = threading.Lock()
        self._entries: dict[Key, Entry] = {}
        self._served: set[ServedModel] = set()
        self._retired = RunnerStats()
        self._loads = LoadFigures()
        self._load_threads = LoadThreads()
        self._intake = Intake(_INTAKE_THREADS, "engine-intake", most_of_model=_INTAKE_THREADS_OF_MODEL)
        # whoever waits for an adapter's file holds up none of the others
        self._adapter_intake = Intake(1, "engine-adapters")
        # nor do texts of megabytes, which take a tokenizer seconds, and gigabytes that nothing else needs
        self._slow_intake = Intake(_SLOW_INTAKE_THREADS, "engine-slow-intake", after=memory.trim)
        self._timer = ExpiryTimer(lambda: self._registry.expire())
        self._registry = Registry[ServedModel](
            load=self._load_model,
            unload=self._unload_model,
            spawn=self._load_threads.start,
            clock=time.monotonic,
            keep_alive_s=settings.keep_alive_s,
            max_loaded=settings.max_loaded_models,
            max_queue=settings.max_queue,
            memory=None if load else self._memory_gauge(),
            deadline_changed=self._timer.wake,
        )
        self._watch = StepWatch(
            settings.step_timeout_s, lambda: [r.step_age_s for m in self._served.copy() if (r := m.runner) is not None]
        )
        memory.settle()
        self._timer.start()
        self._watch.start()

    def generate(self, key: Key, request: GenerateRequest) -> None:
        """Answers in deltas and one Finished, or in an error."""
        self._begin(key, request)

    def embed(self, key: Key, request: EmbedRequest) -> None:
        """Answers in one Embeddings or an error."""
        self._begin(key, request)

    def classify(self, key: Key, request: ClassifyRequest) -> None:
        """Answers in one Classified or an error."""
        self._begin(key, request)

    def tokenize(self, key: Key, request: TokenizeRequest) -> None:
        """Answers in one Tokenized or an error."""
        self._begin(key, request)

    def detokenize(self, key: Key, request: DetokenizeRequest) -> None:
        """Answers in one Detokenized or an error."""
        self._begin(key, request)

    def load(self, key: Key, request: LoadRequest) -> None:
        """Answers in one Loaded or an error."""
        self._begin(key, request)

    def unload(self, model: ModelRef) -> None:
        """Lets the model go as soon as nobody uses it."""
        self._registry.unload(self._resolved(model))

    def cancel(self, key: Key) -> None:
        """Ends a request early, wherever it is; unknown and ended ones are fine."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            return
        with entry.lock:
            entry.cancelled = True
            model = entry.submitted_to
        if model is not None:
            model.cancel(key)
        else:
            is_stream = isinstance(entry.request, GenerateRequest)
            self._end(entry, Finished(reason=FinishReason.ABORT) if is_stream else None)

    def cancel_connection(self, connection_id: int) -> None:
        """Cancels all requests that came by one connection."""
        with self._lock:
            keys = [key for key in self._entries if key[0] == connection_id]
        for key in keys:
            self.cancel(key)

    def loaded(self) -> list[LoadedModel]:
        """The models in memory, those being loaded included, the latest used first."""
        now_s = time.time()
        return [
            resident.model.described(
                resident.ref, ref_count=resident.ref_count, expires_at_s=now_s + resident.expires_in_s
            )
            if resident.model is not None
            else loading_row(resident.ref, resident.ref_count, now_s + resident.expires_in_s)
            for resident in self._registry.residents()
        ]

    def status(self) -> EngineStatus:
        """The sums over all models; counters include those that have been unloaded."""
        num_loaded = sum(resident.model is not None for resident in self._registry.residents())
        with self._lock:
            models, total = list(self._served), self._retired
        for model in models:
            total = added_stats(total, model.stats())
        return summed_status(
            total,
            self._loads,
            pid=os.getpid(),
            device=str(self._device),
            dtype=self._loader.dtype,
            has_native_linears=has_native_linears(),
            context_length=self._default_context,
            num_waiting=total.num_waiting + self._registry.num_waiting,
            num_loaded=num_loaded,
            evicted_total=self._registry.num_evicted,
        )

    def close(self) -> None:
        """Ends every request (streams in Finished(SHUTDOWN), the others in EngineShutdownError) and unloads."""
        self._registry.close()
        with self._lock:
            left = list(self._entries.values())
        for entry in left:
            self._end(entry, EngineShutdownError("the engine is shutting down"))
        for thing in (self._intake, self._adapter_intake, self._slow_intake, self._timer, self._watch):
            thing.close()
        self._load_threads.join(_LONGEST_CLOSE_S)

    def _begin(self, key: Key, request: Request) -> None:
        ref = self._resolved(request.model)
        entry = Entry(key, request, ref, time.monotonic_ns())
        with self._lock:
            if key in self._entries:
                raise ProtocolError("this request id is in use")
            self._entries[key] = entry
            # in one go: what its load, or a wait for memory, tells comes after it
            if (wait := self._registry.wait_for(ref, entry.caller)) is not None:
                self._emit(wait_told(entry, wait))
        try:
            entry.ticket = self._registry.acquire(
                ref,
                keep_alive_s=request.keep_alive_s,
                on_ready=lambda ready: self._on_ready(entry, ready),
                context_length=request.context_length,
                caller=entry.caller,
            )
        except HuggingLlamaError as error:
            self._end(entry, error)
            return
        with self._lock:
            is_over = self._entries.get(key) is not entry
        if is_over:  # it ended before its ticket was known here
            self._registry.release(entry.ticket)

    def _resolved(self, ref: ModelRef) -> ModelRef:
        return dataclasses.replace(ref, quantization=ref.quantization or self._settings.quantize)

    def _on_ready(self, entry: Entry, ready: ServedModel | LoadFailure) -> None:
        if isinstance(ready, LoadFailure):
            self._end(entry, ready.error)
            return
        try:
            self._intake_of(entry.request, ready).submit(entry.caller, ready, lambda: self._work(entry, ready))
        except HuggingLlamaError as error:
            self._end(entry, error)

    def _intake_of(self, request: Request, model: ServedModel) -> Intake:
        if not model.has_adapter(request.model):
            return self._adapter_intake
        return self._slow_intake if model.is_slow(request) else self._intake

    def _work(self, entry: Entry, model: ServedModel) -> None:
        """Runs in an intake thread: everything between a loaded model and its runner."""
        if entry.cancelled:
            return
        try:
            with memory.shortage_told("there is not enough memory to prepare this request"):
                self._serve(entry, model)
        except HuggingLlamaError as error:
            self._end(entry, error)
        except PanicError:  # of the tokenizer: what else panics here is told apart where it is called
            _log.warning("a model's tokenizer failed on a text")
            self._end(entry, GenerationError("the model's tokenizer failed on this text"))
        except Exception:
            _log.exception("a request could not be prepared")
            self._end(entry, GenerationError("the engine failed on this request"))

    @panics_as_errors()
    def _serve(self, entry: Entry, model: ServedModel) -> None:
        load_ns = time.monotonic_ns() - entry.arrival_ns
        key, request = entry.key, entry.request
        if isinstance(request, LoadRequest):
            model.load_adapter(request.model)
            model.choose_context(request.context_length)
            row = next((row for row in self.loaded() if (row.path, row.quantization) == model.ref.identity), None)
            self._end(entry, Loaded(model=row or loading_row(model.ref, 1, time.time()), load_ns=load_ns))
        elif isinstance(request, TokenizeRequest):
            self._end(entry, model.tokenized(request, load_ns=load_ns))
        elif isinstance(request, DetokenizeRequest):
            self._end(entry, model.detokenized(request, load_ns=load_ns))
        elif isinstance(request, EmbedRequest | ClassifyRequest):
            if not request.inputs and not request.model.adapter:
                self._end(entry, empty_answer(request, load_ns))
                return
            job = model.prepare_pooling(key, request, load_ns=load_ns, queued=entry.queued)
            self._submit(entry, model, lambda: model.submit(job))
        else:
            sequence = model.prepare_sequence(key, request, load_ns=load_ns, queued=entry.queued)
            self._submit(entry, model, lambda: model.submit(sequence))

    def _submit(self, entry: Entry, model: ServedModel, submit: Callable[[], None]) -> None:
        """From here on the runner owes the end, unless it refuses or the caller has left meanwhile."""
        with entry.lock:
            if entry.cancelled:
                return
            submit()
            entry.submitted_to = model

    def _on_finished(self, key: Key) -> None:
        with self._lock:
            entry = self._entries.get(key)
        if entry is not None:
            self._end(entry, None)

    def _end(self, entry: Entry, answer: Answer | None) -> None:
        """The one place where a request is over: of several calls the first one counts."""
        with self._lock:
            if self._entries.get(entry.key) is not entry:
                return
            del self._entries[entry.key]
        if answer is not None:
            self._emit([(entry.key, answer)])
        if entry.ticket is not None:
            self._registry.release(entry.ticket)

    def _memory_gauge(self) -> MemoryGauge[ServedModel]:
        return MemoryGauge(
            need=self._memory_need, held_bytes=lambda model: model.size_bytes,
            free_bytes=lambda: memory.free_bytes(self._device), passing_bytes=lambda: FORWARD_MEMORY.promised_bytes,
            total_bytes=lambda: memory.total_bytes(self._device), parked=self._on_parked,
        )  # fmt: skip

    def _memory_need(self, ref: ModelRef, context_length: int | None) -> MemoryNeed:
        with memory.shortage_told("there is not enough memory to look at this model"):
            size, runtime = self._loader.measure(ref.path, ref.quantization)
        wanted = estimate(size, runtime, context_length or size.usual_context(self._default_context))
        return MemoryNeed(wanted.load_bytes, min(least_load_bytes(size, runtime), wanted.load_bytes))

    def _on_parked(self, ref: ModelRef) -> None:
        """A load waits for memory, unless that has come meanwhile."""
        with self._lock:  # a load that begins is told after it
            wait = self._registry.wait_for(ref)
            if wait is not None and wait.phase == "queue":
                self._emit(park_told(self._entries.values(), ref, wait))

    @panics_as_errors()
    def _load_model(self, ref: ModelRef) -> ServedModel:
        start = time.monotonic()
        with self._lock:  # none of them ends meanwhile
            self._emit(load_told(self._entries.values(), ref))
        with self._loads.timed():
            checkpoint = self._load_checkpoint(ref.path, ref.quantization)
            with memory.shortage_told("there is not enough memory to load this model"):
                model = ServedModel(ref, checkpoint, self._settings, emit=self._emit, on_finished=self._on_finished)
        memory.trim()  # conversions and the self-test leave much behind
        with self._lock:
            self._served.add(model)
        _log.info("%s is loaded, after %.1f s", ref.name, time.monotonic() - start)
        return model

    def _unload_model(self, model: ServedModel) -> None:
        model.close()
        with self._lock:
            # in one go, so that no counter ever goes back
            self._served.remove(model)
            self._retired = added_stats(self._retired, model.stats())
            self._loads.num_unloaded += 1
        memory.give_back()
        _log.info("%s is unloaded", model.ref.name)
