"""The one frozen Settings: built once by an entry point, then passed. The engine gets it in its handshake."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the server and the engine. Durations in seconds, infinite for ever; sizes in bytes.

    A field `x` is set by the variable HUGGING_LLAMA_X, by the `x` of the TOML file, and where an Ollama variable
    means the same, by that too (see `env.OLLAMA_VARIABLES`).
    """

    # where we listen
    host: str = "127.0.0.1"
    port: int = 11434
    workers: int = 2
    worker_connections: int = 2000
    graceful_timeout_s: float = 30.0
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    # where things lie
    home: str = ""
    run_dir: str = ""
    hub_cache: str = ""
    hub_endpoint: str = ""
    hub_token: str = field(default="", repr=False)
    model_dirs: tuple[str, ...] = ()
    noprune: bool = False
    # models in memory
    preload: tuple[str, ...] = ()
    keep_alive_s: float = 300.0
    max_loaded_models: int = 0
    context_length: int = 0
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    cuda_graphs: bool = True
    num_threads: int = 0
    standby_engine: bool = True
    kv_cache_bytes: int = 0
    adapter_cache_bytes: int = 0
    # requests
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 0
    max_step_s: float = 0.2
    prefix_cache: bool = True
    max_queue: int = 512
    load_timeout_s: float = 300.0
    first_event_timeout_s: float = 600.0
    idle_event_timeout_s: float = 120.0
    step_timeout_s: float = 600.0
    engine_timeout_s: float = 30.0
    watch_disconnect: bool = True
    max_body_bytes: int = 64 * 2**20
    max_blob_bytes: int = 2**40
    body_timeout_s: float = 30.0
    duration_unit: str = "ns"
    # answers that are kept
    store_responses: bool = True
    stored_responses_bytes: int = 256 * 2**20
    stored_responses_s: float = 30 * 86400.0
    # safety
    keys_file: str = ""
    insecure_no_auth: bool = False
    trust_remote_code: bool = False
    allow_pickle: bool = False
    # what is written
    log_level: str = "info"
    log_levels: tuple[str, ...] = ()
    log_format: str = "text"
    access_log: bool = True
    tracing: bool = False
    audit_log: str = ""

    def to_json(self) -> str:
        """The settings as JSON, for the engine process; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Raises TypeError on a field this version does not know."""
        values: dict[str, Any] = json.loads(text)
        for name in ("preload", "model_dirs", "origins", "trusted_proxies", "log_levels"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """Names the engine that these settings need; two servers share an engine only if all settings agree."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


DEFAULTS: Mapping[str, Any] = {f.name: f.default for f in fields(Settings)}
