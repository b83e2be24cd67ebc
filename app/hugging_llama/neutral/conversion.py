"""What the process that converts a model's weights is asked to do."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRequest:
    """Weights to write anew as safetensors.

    `source` is a folder with `gguf_file`, a whole model, or, if that is "", with pickled weights; what is made goes
    into the folder `target`. Of a GGUF file `architecture` and `end_of_turn_id` are what its metadata say (-1 for
    nothing), `dtype` is what its weights shall be in: "bfloat16", "float16", "float32". `weight_bytes` is about what
    the new weights take, `largest_bytes` the part of them that is in memory twice; they decide the limits.
    """

    source: str
    target: str
    weight_bytes: int
    largest_bytes: int
    gguf_file: str = ""
    architecture: str = ""
    dtype: str = ""
    end_of_turn_id: int = -1

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "ConversionRequest":
        """Raises ValueError or TypeError for what `to_line` of this version did not write."""
        return cls(**json.loads(line))
