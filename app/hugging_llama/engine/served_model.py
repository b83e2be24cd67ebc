"""One model in memory with all that serves it: its checkpoint, its runner, its prompts and its grammar."""

from collections.abc import Callable

import torch

from hugging_llama.engine.answer_bounds import answer_mask, answer_processor, thinking_gate
from hugging_llama.engine.beams import refuse_beams
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.loader import Checkpoint, ModelKind
from hugging_llama.engine.logit_bias import make_logit_bias
from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.model_runner import compute_guard
from hugging_llama.engine.pooling_batch import PoolingJob, PoolingRequest
from hugging_llama.engine.pooling_heads import pooling_head
from hugging_llama.engine.pooling_runner import PoolingRunner
from hugging_llama.engine.pooling_tokens import PoolingTokenizer
from hugging_llama.engine.prompt import PromptRenderer
from hugging_llama.engine.renderers import Renderers
from hugging_llama.engine.request_weight import is_slow
from hugging_llama.engine.runner import Runner, make_runner
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.engine.token_bytes import TokenBytes
from hugging_llama.engine.tokenization import tokenized
from hugging_llama.errors import EngineShutdownError, GrammarError, InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.ipc.facade import Emit, Key
from hugging_llama.neutral.events import Detokenized, Queued, Tokenized
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    TokenizeRequest,
)
from hugging_llama_config.settings import Settings

_GIB = 2**30
_CONTEXT_BY_MEMORY = ((47 * _GIB, 262_144), (23 * _GIB, 32_768))
_DEFAULT_CONTEXT = 4096
_MIN_CONTEXT = 4

OnFinished = Callable[[Key], None]
"""Called with the key of each request that was submitted, after its end was emitted."""


class ServedModel:
    """Made by a load; `close` ends it and drops what takes memory. `prepare_…` may be slow, `submit` is not."""

    def __init__(
        self, ref: ModelRef, checkpoint: Checkpoint, settings: Settings, *, emit: Emit, on_finished: OnFinished
    ) -> None:
        self.ref = ref
        self._compiler: GrammarCompiler | None = None
        self._default_context = settings.context_length or default_context_length(checkpoint.device)
        self._checkpoint: Checkpoint | None = checkpoint
        self._runner: Runner | None = None
        self._pooling_runner: PoolingRunner | None = None
        self._adapters: AdapterCache | None = None
        self._last_stats = RunnerStats()
        self._renderers: Renderers | None = None
        self._longest_context = checkpoint.trained_context
        self.context_length = self._context_length(checkpoint, None)
        if checkpoint.kind is not ModelKind.GENERATION:
            self._pooling_runner = PoolingRunner(
                pooling_head(checkpoint),
                max_batched_tokens=settings.max_num_batched_tokens,
                max_jobs=settings.max_num_seqs + settings.max_queue,
                lock=compute_guard(checkpoint.device),
                emit=emit,
                on_finished=on_finished,
                name=ref.name,
            )
            return
        self._compiler = _grammar_compiler(checkpoint)
        self._token_bytes = TokenBytes(checkpoint.tokenizer)
        self._adapters = AdapterCache(checkpoint.model, budget_bytes=settings.adapter_cache_bytes)
        self._renderers = Renderers(
            checkpoint.tokenizer,
            format=checkpoint.format,
            vocabulary_size=checkpoint.width or len(checkpoint.tokenizer),
            longest_context=checkpoint.trained_context,
        )
        self._runner = make_runner(
            checkpoint.model,
            settings=settings,
            default_context=self._default_context,
            emit=emit,
            on_finished=lambda sequence: on_finished(sequence.key),
            name=ref.name,
        )
        # a sequence lies in one slot, the largest is the largest power of two that the cache holds
        if capacity := self._runner.stats().kv_capacity_tokens:
            self._longest_context = min(checkpoint.trained_context, 1 << (capacity.bit_length() - 1))
        self.context_length = self._context_length(checkpoint, None)

    def has_adapter(self, ref: ModelRef) -> bool:
        """Whether the adapter of `ref` is in memory, or it has none."""
        adapters = self._adapters
        return not ref.adapter or adapters is None or ref.adapter in adapters

    def is_slow(self, request: object) -> bool:
        """Whether this had better not hold up what is for other models: it is slow itself, or its template may be."""
        is_chat = isinstance(request, GenerateRequest | TokenizeRequest) and isinstance(request.prompt, ChatPrompt)
        has_slow_template = self._renderers is not None and self._renderers.usual.is_slow
        return (is_chat and has_slow_template) or is_slow(request)

    def load_adapter(self, ref: ModelRef) -> None:
        """Blocks until the adapter of `ref` is in memory, if it has one.

        Raises InvalidRequestError for a model that does not write, and what `AdapterCache.take` raises.
        """
        self._adapter(ref, None)

    def choose_context(self, wanted: int | None) -> None:
        """What `described` shows; a generation chooses its own again."""
        self.context_length = self._context_length(self._open_checkpoint(), wanted)

    def prepare_sequence(
        self, key: Key, request: GenerateRequest, *, load_ns: int, queued: Queued | None = None
    ) -> Sequence:
        """Renders and tokenises; `queued` is how it has waited for the model. Raises a RequestError for what the caller
        must change."""
        checkpoint = self._open_checkpoint()
        if checkpoint.kind is not ModelKind.GENERATION:
            raise UnsupportedCapabilityError(request.model.name, ["completion"])
        self.context_length = context_length = self._context_length(checkpoint, request.context_length)
        renderers = self._open_renderers()
        prompt = renderers.of(request).render(request, context_length=context_length)
        sampling = request.sampling
        refuse_beams(request)
        eos_token_ids = checkpoint.eos_token_ids | prompt.end_ids
        bias = make_logit_bias(
            sampling,
            renderers.usual.encode,
            vocab_size=checkpoint.width or len(checkpoint.tokenizer),
            eos_token_ids=eos_token_ids,
        )
        gate = thinking_gate(checkpoint.tokenizer, request, prompt, end_ids=eos_token_ids)
        output = answer_processor(
            checkpoint.tokenizer,
            request,
            prompt,
            gate,
            hidden_ids=(checkpoint.hidden_ids - prompt.shown_ids) | eos_token_ids,
        )
        sequence = Sequence(
            key=key,
            prompt_token_ids=prompt.token_ids,
            sampling=sampling,
            context_length=context_length,
            output=output,
            eos_token_ids=eos_token_ids,
            grammar=answer_mask(self._compiler, request, prompt, gate),
            bias=bias,
            prompt_logprobs=request.prompt_logprobs,
            token_bytes=self._token_bytes if request.tells_tokens else None,
            shift=request.shift,
            num_truncated_tokens=prompt.num_truncated_tokens,
            return_context=request.return_context,
            tells_start=request.tells_start,
            tells_progress=request.tells_progress,
            caller=request.caller,
            load_ns=load_ns,
        )
        sequence.adapter, sequence.queued = self._adapter(request.model, sequence), queued
        return sequence

    def prepare_pooling(
        self, key: Key, request: PoolingRequest, *, load_ns: int, queued: Queued | None = None
    ) -> PoolingJob:
        """Tokenises; `queued` as in `prepare_sequence`. Raises a RequestError for what the caller must change."""
        checkpoint, runner = self._open_checkpoint(), self._pooling_runner
        wanted = ModelKind.EMBEDDING if isinstance(request, EmbedRequest) else ModelKind.CLASSIFICATION
        if checkpoint.kind is not wanted or runner is None:
            raise UnsupportedCapabilityError(request.model.name, [wanted.value])
        self.load_adapter(request.model)
        job = runner.prepare(key, request, load_ns=load_ns)
        job.queued_before = queued
        return job

    def tokenized(self, request: TokenizeRequest, *, load_ns: int) -> Tokenized:
        """May be slow. Raises a RequestError for what the caller must change."""
        return tokenized(self._token_source(request), request, load_ns=load_ns)

    def detokenized(self, request: DetokenizeRequest, *, load_ns: int) -> Detokenized:
        """May be slow. Raises InvalidRequestError for ids that the model does not have."""
        return Detokenized(text=self._token_source().decode(request.token_ids), load_ns=load_ns)

    def submit(self, work: Sequence | PoolingJob) -> None:
        """Hands prepared work to the runner. Raises a HuggingLlamaError if that refuses it; then no end follows."""
        self._open_checkpoint()
        if isinstance(work, Sequence) and (runner := self._runner) is not None:
            runner.submit(work)
        elif isinstance(work, PoolingJob) and (pooling_runner := self._pooling_runner) is not None:
            pooling_runner.submit(work)
        else:
            raise EngineShutdownError("the model is being unloaded")

    def cancel(self, key: Key) -> None:
        """Ends a submitted request early; unknown ones are fine."""
        if (runner := self.runner) is not None:
            runner.cancel(key)

    def stats(self) -> RunnerStats:
        """The runner's figures; after `close` its counters at the end."""
        return self._last_stats if (runner := self.runner) is None else runner.stats()

    @property
    def runner(self) -> Runner | PoolingRunner | None:
        """What runs this model; None after `close`."""
        return self._runner or self._pooling_runner

    @property
    def size_bytes(self) -> int:
        """What weights, adapters and the KV cache take, the latter as far as it is allocated; 0 after `close`."""
        checkpoint = self._checkpoint
        adapters = self._adapters
        held_bytes = adapters.size_bytes if adapters else 0
        return checkpoint.size_bytes + self.stats().kv_allocated_bytes + held_bytes if checkpoint else 0

    def close(self) -> None:
        """Ends what still runs and lets go of the weights; waits for the running step."""
        self._checkpoint = None
        if self._renderers is not None:
            self._renderers.close()
            self._renderers = None
        if self._compiler is not None:
            self._compiler.close()
        if (runner := self.runner) is not None:
            runner.close()
            self._last_stats = runner.stats().without_gauges()
        self._runner = self._pooling_runner = self._compiler = self._adapters = None

    def described(self, ref: ModelRef, *, ref_count: int, expires_at_s: float) -> LoadedModel:
        """A row of `ps` under the name and the digest of `ref`, which is one to this copy."""
        checkpoint = self._checkpoint
        runner = self.runner
        size_bytes = self.size_bytes
        on_device = checkpoint is not None and checkpoint.device.type != "cpu"
        return LoadedModel(
            name=ref.name,
            path=self.ref.path,
            digest=ref.digest,
            size_bytes=size_bytes,
            size_vram_bytes=size_bytes if on_device else 0,
            context_length=self.context_length,
            expires_at_s=expires_at_s,
            ref_count=ref_count,
            device=str(checkpoint.device) if checkpoint else "",
            dtype=str(checkpoint.dtype).removeprefix("torch.") if checkpoint else "",
            runner=runner.kind if runner else "",
            runner_reason=self._runner.reason if self._runner else "",
            quantization=checkpoint.quantization if checkpoint else self.ref.quantization,
            linear=checkpoint.linear if checkpoint else "",
        )

    def _token_source(self, request: TokenizeRequest | None = None) -> PromptRenderer | PoolingTokenizer:
        if self._open_checkpoint().kind is ModelKind.GENERATION:
            renderers = self._open_renderers()
            return renderers.of(request) if request else renderers.usual
        if (runner := self._pooling_runner) is None:
            raise EngineShutdownError("the model is being unloaded")
        return runner.tokenizer

    def _open_renderers(self) -> Renderers:
        if self._renderers is None:
            raise EngineShutdownError("the model is being unloaded")
        return self._renderers

    def _open_checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            raise EngineShutdownError("the model is being unloaded")
        return self._checkpoint

    def _adapter(self, ref: ModelRef, user: Sequence | None) -> LoraAdapter | None:
        if not ref.adapter:
            return None
        if self._open_checkpoint().kind is not ModelKind.GENERATION:
            raise InvalidRequestError(f'"{ref.name}" does not write, and adapters are for models that do')
        if (adapters := self._adapters) is None:
            raise EngineShutdownError("the model is being unloaded")
        return adapters.take(ref.adapter, user)

    def _context_length(self, checkpoint: Checkpoint, wanted: int | None) -> int:
        """What is asked, else the server's default, never more than the model was made for and memory holds."""
        usual = self._default_context if checkpoint.kind is ModelKind.GENERATION else checkpoint.trained_context
        return max(min(wanted or usual, self._longest_context), _MIN_CONTEXT)


def _grammar_compiler(checkpoint: Checkpoint) -> GrammarCompiler | None:
    """None for a tokenizer that does not allow it; that concerns requests for a format only."""
    try:
        return GrammarCompiler(checkpoint.tokenizer, width=checkpoint.width, eos_token_ids=checkpoint.eos_token_ids)
    except GrammarError:
        return None


def default_context_length(device: torch.device) -> int:
    """Tokens of context where neither the request nor the settings name any: the more memory, the more."""
    if device.type != "cuda":
        return _DEFAULT_CONTEXT
    total = torch.cuda.get_device_properties(device).total_memory
    return next((length for size, length in _CONTEXT_BY_MEMORY if total >= size), _DEFAULT_CONTEXT)
