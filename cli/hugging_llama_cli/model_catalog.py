"""The packaged list of well-known models, and what each would take in memory."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hugging_llama_config.model_memory import DTYPE_BYTES, MemoryEstimate, ModelSize, Runtime, estimate

DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One entry. `weight_bytes` is by dtype, the one that is loaded first; an encoder has no KV cache, layers 0."""

    id: str
    kind: str
    parameters: int
    weight_bytes: dict[str, int]
    hidden: int
    intermediate: int
    vocab: int
    context: int
    license: str
    gated: bool
    tied: bool = False
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
        return self._size.kv_per_token * DTYPE_BYTES[self.dtype]

    def memory(self, context: int | None = None, device: str = "cpu") -> MemoryEstimate:
        """What an engine with this model alone takes, by the arithmetic that a server uses for a model on disk."""
        wanted = context or self._size.usual_context(DEFAULT_CONTEXT)
        return estimate(self._size, Runtime(device=device, dtype=self.dtype), wanted)

    def to_json(self, context: int, device: str) -> dict[str, Any]:
        """The entry as `--json` prints it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "weight_bytes": self.weight_bytes[self.dtype],
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "memory_bytes": self.memory(context, device).total_bytes,
            "context": self.context,
            "license": self.license,
            "gated": self.gated,
        }

    @property
    def _size(self) -> ModelSize:
        is_embedding = self.kind == "embedding"
        matrix = self.vocab * self.hidden
        head = 0 if is_embedding else matrix
        return ModelSize(
            linear=self.parameters - matrix - (0 if self.tied else head),
            head=head,
            other=matrix,
            is_head_tied=self.tied,
            is_embedding=is_embedding,
            kv_per_token=0 if is_embedding else 2 * self.layers * self.kv_heads * self.head_dim,
            hidden=self.hidden,
            intermediate=self.intermediate,
            vocab=self.vocab,
            context_length=self.context,
        )


def load_catalog() -> list[CatalogModel]:
    """The entries of the packaged file, in its order."""
    text = resources.files("hugging_llama_config").joinpath("catalog.toml").read_text(encoding="utf-8")
    return [CatalogModel(**entry) for entry in tomllib.loads(text)["model"]]


def find_in_catalog(models: Iterable[CatalogModel], name: str) -> CatalogModel | None:
    """The entry of that name in any case of letters, with or without `:latest`."""
    wanted = name.lower().removesuffix(":latest")
    return next((model for model in models if model.id.lower() == wanted), None)
