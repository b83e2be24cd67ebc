"""What the engine says of itself, where there is one that answers at once."""

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.operations.context import AppContext

_TIMEOUT_S = 1.0


def engine_status(ctx: AppContext) -> EngineStatus | None:
    """None if there is no engine, or it does not answer."""
    try:
        return ctx.engine.status(_TIMEOUT_S)
    except HuggingLlamaError:
        return None
