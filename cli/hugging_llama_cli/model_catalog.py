"""The list of well-known models, and what each would take in memory: the packaged one, or newer words of the Hub.

`catalog --update` keeps what it has learned in `<home>/catalog.json`. The packaged list says which models there are;
an entry of the file replaces its own there, and one that makes no sense does not.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hugging_llama_config.model_memory import DTYPE_BYTES, MemoryEstimate, ModelSize, Runtime, estimate
from hugging_llama_config.private_file import replace_private_file

DEFAULT_CONTEXT = 4096
BUNDLED = "hugging-llama/demo"
_FILE_NAME = "catalog.json"
_VERSION = 1
_LARGEST = 2**50
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One entry. `dtype` is the one in which it is loaded; `parameters` count tied embeddings once.

    `commit` and `download_bytes` (of its weights) are known once the Hub was asked, "" and 0 before.
    """

    id: str
    kind: str
    dtype: str
    parameters: int
    license: str
    gated: bool
    size: ModelSize
    commit: str = ""
    download_bytes: int = 0

    @property
    def weight_bytes(self) -> int:
        """All parameters in that dtype."""
        return self.parameters * DTYPE_BYTES[self.dtype]

    @property
    def kv_bytes_per_token(self) -> int:
        """One key and one value a layer; an upper bound for models whose layers see a sliding window only."""
        return self.size.kv_per_token * DTYPE_BYTES[self.dtype]

    def memory(self, context: int | None = None, runtime: Runtime | None = None) -> MemoryEstimate:
        """What an engine with this model alone takes, by the arithmetic that a server uses for a model on disk."""
        wanted = context or self.size.usual_context(DEFAULT_CONTEXT)
        return estimate(self.size, runtime or self.runtime(), wanted)

    def runtime(self, device: str = "cpu", quantization: str = "none", *, has_native_linears: bool = False) -> Runtime:
        """How an engine on that device would run it."""
        return Runtime(
            device=device,
            dtype=self.dtype,
            quantization=quantization,
            packs_linears=device == "cpu",
            has_native_linears=has_native_linears,
        )


def load_catalog(home: Path | None = None) -> list[CatalogModel]:
    """The packaged entries in their order, each as the Hub described it last, if `home` knows."""
    text = resources.files("hugging_llama_config").joinpath("catalog.toml").read_text(encoding="utf-8")
    packaged = [_packaged(entry) for entry in tomllib.loads(text)["model"]]
    newer = _refreshed(home / _FILE_NAME) if home else {}
    return [newer.get(model.id, model) for model in packaged]


def save_catalog(home: Path, models: Iterable[CatalogModel]) -> None:
    """Keep the entries that the Hub described, all or none. Raises OSError."""
    known = {model.id: asdict(model) for model in models if model.commit}
    home.mkdir(parents=True, exist_ok=True)
    replace_private_file(home / _FILE_NAME, json.dumps({"version": _VERSION, "models": known}, indent=1).encode())


def find_in_catalog(models: Iterable[CatalogModel], name: str) -> CatalogModel | None:
    """The entry of that name in any case of letters, with or without `:latest`."""
    wanted = name.lower().removesuffix(":latest")
    return next((model for model in models if model.id.lower() == wanted), None)


def check_entry(model: CatalogModel) -> None:
    """Raises ValueError for what can't be a model: the words and numbers came from elsewhere."""
    numbers = [model.parameters, model.download_bytes, *(v for v in asdict(model.size).values() if type(v) is not bool)]
    if not all(type(number) is int and 0 <= number <= _LARGEST for number in numbers):
        raise ValueError("numbers that make no sense")
    size = model.size
    least = [model.parameters, size.linear, size.hidden, size.vocab, size.context_length]
    if not all(least) or (model.kind == "chat" and not (size.head and (size.kv_per_token or size.state))):
        raise ValueError("too few numbers for an estimate")
    if model.dtype not in DTYPE_BYTES or not _WORD.fullmatch(model.license) or type(model.gated) is not bool:
        raise ValueError("words that make no sense")
    if not _COMMIT.fullmatch(model.commit):
        raise ValueError("no commit")


def _packaged(entry: Mapping[str, Any]) -> CatalogModel:
    """An entry as `catalog.toml` describes them."""
    is_embedding = entry["kind"] == "embedding"
    matrix = entry["vocab"] * entry["hidden"]
    head = 0 if is_embedding else matrix
    is_tied, experts = entry.get("tied", False), entry.get("experts", 0)
    (dtype,) = entry["weight_bytes"]
    size = ModelSize(
        linear=entry["parameters"] - experts - matrix - (0 if is_tied else head),
        head=head,
        other=matrix + experts,
        is_head_tied=is_tied,
        is_embedding=is_embedding,
        kv_per_token=2 * entry.get("layers", 0) * entry.get("kv_heads", 0) * entry.get("head_dim", 0),
        hidden=entry["hidden"],
        intermediate=entry["intermediate"],
        vocab=entry["vocab"],
        context_length=entry["context"],
    )
    words = {key: entry[key] for key in ("id", "kind", "parameters", "license", "gated")}
    return CatalogModel(**words, dtype=dtype, size=size)


def _refreshed(path: Path) -> dict[str, CatalogModel]:
    """What the file holds and makes sense, by id; nothing if there is none or if another version wrote it."""
    try:
        values = json.loads(path.read_bytes())
        if values["version"] != _VERSION:
            return {}
        entries = dict(values["models"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    found = {}
    for id, entry in entries.items():
        try:
            model = CatalogModel(**{**entry, "id": id, "size": ModelSize(**entry["size"])})
            check_entry(model)
        except (ValueError, LookupError, TypeError):
            continue
        found[id] = model
    return found
