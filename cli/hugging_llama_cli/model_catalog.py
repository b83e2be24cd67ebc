"""The packaged list of well-known models, and what each would take in memory."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

DEFAULT_CONTEXT = 4096
KV_BYTES = 2  # keys and values are kept in sixteen bits
OVERHEAD_BYTES = 600_000_000
"""What comes on top of any model: torch's own runtime and the activations of one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One entry. `weight_bytes` is by dtype, the one that is loaded first; an encoder has no KV cache, layers 0."""

    id: str
    kind: str
    parameters: int
    weight_bytes: dict[str, int]
    context: int
    license: str
    gated: bool
    layers: int = 0
    kv_heads: int = 0
    head_dim: int = 0

    @property
    def dtype(self) -> str:
        """The dtype that the estimate is for."""
        return next(iter(self.weight_bytes))

    @property
    def kv_bytes_per_token(self) -> int:
        """One key and one value a layer; an upper bound for models whose layers see a sliding window only."""
        return 2 * self.layers * self.kv_heads * self.head_dim * KV_BYTES

    def memory_bytes(self, context: int = DEFAULT_CONTEXT) -> int:
        """Weights, the KV cache of one sequence of `context` tokens or the model's own limit, and the overhead."""
        cache = self.kv_bytes_per_token * min(context, self.context)
        return self.weight_bytes[self.dtype] + cache + OVERHEAD_BYTES

    def to_json(self, context: int) -> dict[str, Any]:
        """The entry as `--json` prints it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "weight_bytes": self.weight_bytes[self.dtype],
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "memory_bytes": self.memory_bytes(context),
            "context": self.context,
            "license": self.license,
            "gated": self.gated,
        }


def load_catalog() -> list[CatalogModel]:
    """The entries of the packaged file, smallest first."""
    text = resources.files("hugging_llama_config").joinpath("catalog.toml").read_text(encoding="utf-8")
    models = [CatalogModel(**entry) for entry in tomllib.loads(text)["model"]]
    return sorted(models, key=lambda model: model.memory_bytes())
