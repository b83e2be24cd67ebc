"""The `details` object that tags, ps and show share."""

from hugging_llama.dialects.ollama.render import Json
from hugging_llama.neutral.models import ModelDetails


def human_parameters(count: int | None) -> str:
    """`7.6B`, `494.03M`, `3.2K`; one decimal for billions, none if whole; "" if unknown."""
    if count is None:
        return ""
    if count >= 10**9:
        billions = count / 10**9
        return f"{billions:.0f}B" if billions == int(billions) else f"{billions:.1f}B"
    if count >= 10**6:
        return f"{count / 10**6:.2f}M"
    if count >= 10**3:
        return f"{count / 10**3:.2f}K"
    return str(count)


def details_json(details: ModelDetails, *, level: str, parent: str = "", with_lengths: bool) -> Json:
    """Ollama's details; the lengths stand in /api/tags only, the parent not in /api/ps."""
    found: Json = {
        "parent_model": parent,
        "format": details.format,
        "family": details.family,
        "families": [details.family] if details.family else None,
        "parameter_size": human_parameters(details.parameter_count),
        "quantization_level": level,
    }
    if with_lengths and details.context_length:
        found["context_length"] = details.context_length
    if with_lengths and details.embedding_length:
        found["embedding_length"] = details.embedding_length
    return found
