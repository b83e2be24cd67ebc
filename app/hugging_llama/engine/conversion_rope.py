"""The scaling of rotary positions that a GGUF file says, in transformers' words: its loader leaves it out.

llama.cpp writes linear and YaRN scaling as metadata, and Llama 3's as a tensor that divides each frequency:
https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py (`generate_extra_tensors`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hugging_llama.errors import InvalidRequestError

_LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What every Llama 3 has; the factor is that of the slowest frequency."""
_TOLERANCE = 1e-3


def restore_rope_scaling(config: Any, scaling: Mapping[str, Any], factors: Sequence[float]) -> None:
    """Set `config.rope_parameters`, or its part for layers with full attention.

    `scaling` holds what follows `rope.scaling.` in the metadata, `factors` divide the frequencies from fastest to
    slowest, () if the file has none. Raises InvalidRequestError for a scaling that transformers has no word for.
    """
    text = config.get_text_config()
    parameters: Any = getattr(text, "rope_parameters", None)
    if isinstance(parameters, dict) and "full_attention" in parameters:
        parameters = parameters["full_attention"]
    if not isinstance(parameters, dict) or parameters.get("rope_type", "default") != "default":
        return  # no rotary positions, or transformers has read it
    if factors:
        parameters |= _llama3(parameters["rope_theta"], factors)
    elif (kind := scaling.get("type", "none")) != "none":
        parameters |= _scaled(kind, scaling)


def _scaled(kind: object, scaling: Mapping[str, Any]) -> dict[str, Any]:
    factor, original = scaling.get("factor"), scaling.get("original_context_length")
    if not _is_positive(factor):
        raise _refusal(kind)
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and _is_positive(original):
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise _refusal(kind)


def _llama3(theta: float, factors: Sequence[float]) -> dict[str, Any]:
    """Llama 3's parameters if they give these factors."""
    found = {**_LLAMA3, "factor": round(max(factors), 3)}
    if found["factor"] < 1:
        raise _refusal("of its own")
    size = len(factors)
    expected = [_llama3_factor(2 * math.pi * theta ** (number / size), found) for number in range(size)]
    if not all(math.isclose(a, b, rel_tol=_TOLERANCE) for a, b in zip(factors, expected, strict=True)):
        raise _refusal("of its own")
    return found


def _llama3_factor(wavelength: float, parameters: Mapping[str, Any]) -> float:
    """By what Llama 3 divides the frequency of this wavelength (in tokens)."""
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    if wavelength < original / high:
        return 1.0
    if wavelength > original / low:
        return float(factor)
    smooth = (original / wavelength - low) / (high - low)
    return float(1 / ((1 - smooth) / factor + smooth))


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31


def _refusal(kind: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"this GGUF file scales its positions in a way that can't be converted ({kind})", param="files"
    )
