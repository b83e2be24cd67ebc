"""What the process that converts a model's weights is asked to do."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a GGUF file says that transformers does not read, or that decides what it reads.

    `file` is its name in the folder, `dtype` what its weights shall be in ("bfloat16", "float16", "float32"),
    `num_elements` how many they are, `num_tokens` how many the vocabulary has. `end_of_turn_id` is -1 for none,
    `rope_scaling` what follows that word in the metadata, `rope_factors` divide the rotary frequencies.
    """

    file: str
    architecture: str
    dtype: str
    num_elements: int
    num_tokens: int
    end_of_turn_id: int = -1
    rope_scaling: dict[str, str | int | float | bool] = field(default_factory=dict)
    rope_factors: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRequest:
    """Weights to write anew as safetensors.

    `source` is a folder with a GGUF file, a whole model, or, without `gguf`, with pickled weights; what is made goes
    into the folder `target`. `weight_bytes` is about what the new weights take, `largest_bytes` the part of them that
    is in memory twice; they decide the limits.
    """

    source: str
    target: str
    weight_bytes: int
    largest_bytes: int
    gguf: GgufFacts | None = None

    @classmethod
    def from_line(cls, line: bytes) -> "ConversionRequest":
        """Raises ValueError, KeyError or TypeError for what is not a request of this version in one line of JSON."""
        values: dict[str, Any] = json.loads(line)
        gguf = values.pop("gguf")
        return cls(**values, gguf=GgufFacts(**gguf) if gguf else None)
