"""What is known of a model on disk, and what it would take in memory."""

from hugging_llama.neutral.description import ModelDescription
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.engine_status import engine_status
from hugging_llama.store import description
from hugging_llama.store.remote_size import remote_size
from hugging_llama_config.hardware import expected_device
from hugging_llama_config.model_memory import DTYPE_BYTES, MemoryEstimate, ModelSize, Runtime, estimate

_DEFAULT_CONTEXT = 4096
_DEFAULT_DTYPE = "bfloat16"


def describe(model: LocalModel, *, with_lists: bool = False) -> ModelDescription:
    """Raises ModelNotFoundError if its files are gone by now."""
    return description.describe(model, with_lists=with_lists)


def memory(ctx: AppContext, model: LocalModel, context_length: int | None) -> MemoryEstimate:
    """What an engine that holds this model alone takes, with one sequence of `context_length` tokens or the default.

    The engine says what it runs on; where none answers, the settings and this machine do, and bfloat16. Raises
    ModelNotFoundError.
    """
    size, stored_dtype = ctx.store.stored_size(model)
    wanted = context_length or model.defaults.context_length
    return _estimate(ctx, size, stored_dtype, wanted, model.ref.quantization)


def remote_memory(ctx: AppContext, name: str, context_length: int | None) -> MemoryEstimate:
    """The same for a model of the Hub, of which no more than the headers is fetched.

    Raises InvalidRequestError, ModelNotFoundError, GatedModelError, KeyRejectedError, TransferError.
    """
    return _estimate(ctx, *remote_size(ctx.settings, name), context_length)


def _estimate(
    ctx: AppContext, size: ModelSize, stored_dtype: str, context_length: int | None, quantization: str = ""
) -> MemoryEstimate:
    status = engine_status(ctx)
    device = status.device if status else expected_device(ctx.settings.device)
    runtime = Runtime(
        device=device,
        dtype=_dtype(ctx, status, stored_dtype),
        quantization=(quantization or ctx.settings.quantize) if device == "cpu" else "none",
        packs_linears=device == "cpu",
        has_native_linears=status is not None and status.has_native_linears,
        batched_tokens=ctx.settings.max_num_batched_tokens,
        kv_cache_bytes=ctx.settings.kv_cache_bytes,
    )
    default = (status and status.context_length) or ctx.settings.context_length or _DEFAULT_CONTEXT
    return estimate(size, runtime, context_length or size.usual_context(default))


def _dtype(ctx: AppContext, status: EngineStatus | None, stored: str) -> str:
    chosen = (status and status.dtype) or ctx.settings.dtype
    if chosen in DTYPE_BYTES:
        return chosen
    return stored if DTYPE_BYTES.get(stored) == DTYPE_BYTES[_DEFAULT_DTYPE] else _DEFAULT_DTYPE
