"""The one frozen Settings: built once by an entry point, then passed. The engine gets it in its handshake."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hugging_llama_config.described import CLI, ENGINE, GUNICORN, WEB, Setting, described_fields, setting
from hugging_llama_config.kinds import (
    BOOL,
    FILE,
    FILE_TO_WRITE,
    FOLDER,
    FOLDERS,
    HOST,
    LIMIT,
    LOG_LEVELS,
    NAMES,
    NETWORKS,
    NUMBER,
    ORIGINS,
    SECONDS,
    SIZE,
    TEXT,
    URL,
)
from hugging_llama_config.log_levels import LEVELS
from hugging_llama_config.paths import read_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the server and the engine. Durations in seconds, infinite for ever; sizes in bytes.

    A field `x` is set by the flag --x of `serve`, the variable HUGGING_LLAMA_X, the key `x` of a TOML file, and where
    an Ollama variable means the same, by that too. What is said here of a field is all that is said of it anywhere.
    """

    # where we listen
    host: str = setting(
        "127.0.0.1", HOST, (GUNICORN, CLI), "the address to listen on; `0.0.0.0` is every one", ollama=("OLLAMA_HOST",),
    )  # fmt: skip
    port: int = setting(
        11434, NUMBER, (GUNICORN, CLI), "the port to listen on", high=65535,
        ollama=("OLLAMA_HOST", "OLLAMA_LOCAL_PORT"),
    )  # fmt: skip
    workers: int = setting(2, NUMBER, (GUNICORN,), "web workers; the models are loaded once for all", low=1, high=512)
    worker_connections: int = setting(
        2000, NUMBER, (GUNICORN,), "connections that a worker takes", low=1, high=10**6,
    )  # fmt: skip
    graceful_timeout_s: float = setting(
        30.0, SECONDS, (GUNICORN, WEB), "how long TERM waits for running streams", high=86400,
    )  # fmt: skip
    origins: tuple[str, ...] = setting(
        (), ORIGINS, (WEB,), "pages of which sites may call, beside those of this machine and of desktop apps; one `*` "
        "each stands for anything", ollama=("OLLAMA_ORIGINS",),
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = setting(
        (), NETWORKS, (GUNICORN, WEB), "proxies whose `X-Forwarded-*` headers are believed; `*` is everybody",
    )  # fmt: skip
    # where things lie
    home: str = setting(
        "", FOLDER, (WEB, CLI), "the folder of named models, uploaded files, keys and kept answers",
        origin="~/.cache/hugging-llama",
    )  # fmt: skip
    run_dir: str = setting(
        "", FOLDER, (GUNICORN, WEB), "sockets and locks; its path must be short", origin="a folder of the user's",
    )  # fmt: skip
    hub_cache: str = setting(
        "", FOLDER, (WEB,), "the Hub's cache, where weights live", origin="HF_HUB_CACHE, HF_HOME/hub",
    )  # fmt: skip
    hub_endpoint: str = setting(
        "", URL, (WEB, CLI), "the Hub's address; a request can never choose another", origin="HF_ENDPOINT",
    )  # fmt: skip
    hub_token: str = setting(
        "", TEXT, (WEB, CLI), "for gated and private models, and for pushes of callers who send none",
        origin="HF_TOKEN", is_secret=True,
    )  # fmt: skip
    hub_token_file: str = setting(
        "", FILE, (WEB, CLI), "a file with that token, read whenever one is needed: what `hf auth login` writes",
        origin="HF_TOKEN_PATH, HF_HOME/token",
    )  # fmt: skip
    model_dirs: tuple[str, ...] = setting(
        (), FOLDERS, (WEB,), "folders of the server's disk: an absolute path below one of them is a model's name, and "
        "the folders right below are listed",
    )  # fmt: skip
    noprune: bool = setting(
        False, BOOL, (WEB,), "keep uploads that no model needs; else they go at a start, an hour after they came",
        ollama=("OLLAMA_NOPRUNE",),
    )  # fmt: skip
    # models in memory
    preload: tuple[str, ...] = setting(
        (), NAMES, (WEB,), "models to load at the start, and with the first request after an engine has died"
    )
    keep_alive_s: float = setting(
        300.0, SECONDS, (ENGINE,), "how long an idle model stays", ollama=("OLLAMA_KEEP_ALIVE",),
        flags=("--model-ttl",),
    )  # fmt: skip
    max_loaded_models: int = setting(
        0, NUMBER, (ENGINE,), "models in memory at once; 0: three", ollama=("OLLAMA_MAX_LOADED_MODELS",),
        ollama_zero_is_automatic=True, flags=("--max-resident-models",),
    )  # fmt: skip
    context_length: int = setting(
        0, NUMBER, (WEB, ENGINE), "default `num_ctx`; 0: 4096 or the model's own", ollama=("OLLAMA_CONTEXT_LENGTH",),
        ollama_zero_is_automatic=True,
    )  # fmt: skip
    device: str = setting(
        "auto", TEXT, (WEB, ENGINE), "where models run; auto takes cuda before mps before cpu",
        choices=("auto", "cpu", "cuda", "mps"),
    )  # fmt: skip
    dtype: str = setting(
        "auto", TEXT, (WEB, ENGINE), "numbers of weights and activations; auto measures on a CPU",
        choices=("auto", "bfloat16", "float16", "float32"),
    )  # fmt: skip
    quantize: str = setting(
        "none", TEXT, (WEB, ENGINE), "`int8` or `int4` weights for linear layers, on a CPU: less memory traffic, less "
        "exact; a named model may have its own", choices=("none", "int8", "int4"),
    )  # fmt: skip
    cuda_graphs: bool = setting(
        True, BOOL, (ENGINE,), "on CUDA: capture decode steps that come again as graphs, which start in one go",
    )  # fmt: skip
    num_threads: int = setting(
        0, NUMBER, (ENGINE,), "threads of the engine; 0: all cores but one, on one or two cores all", high=4096,
    )  # fmt: skip
    standby_engine: bool = setting(
        True, BOOL, (ENGINE,), "keep a second engine process ready, without models, to take over after a crash within "
        "a second; costs about 270 MB",
    )  # fmt: skip
    kv_cache_bytes: int = setting(
        0, SIZE, (WEB, ENGINE), "KV cache of a model; 0: the default `num_ctx` for `max_num_seqs` sequences, half of "
        "the free memory at most",
    )  # fmt: skip
    adapter_cache_bytes: int = setting(
        0, SIZE, (ENGINE,), "LoRA adapters of a model in memory, those used longest ago leave; 0: a quarter of the "
        "memory that is free when the model is loaded",
    )  # fmt: skip
    # requests
    max_num_seqs: int = setting(
        64, NUMBER, (WEB, ENGINE), "sequences in a batch", low=1, high=4096, ollama=("OLLAMA_NUM_PARALLEL",),
        ollama_zero_is_automatic=True,
    )  # fmt: skip
    max_num_batched_tokens: int = setting(
        0, NUMBER, (ENGINE,), "prompt tokens that a step, or a batch of texts to embed, may take; 0: as many as "
        "`max_step_s` allows, by measurement, for texts by device",
    )  # fmt: skip
    max_step_s: float = setting(
        0.2, SECONDS, (ENGINE,), "how long a step with a prompt's chunk may take while others stream", low=0.001,
        high=60,
    )  # fmt: skip
    prefix_cache: bool = setting(
        True, BOOL, (ENGINE,), "keep what ended requests have computed for prompts that begin alike; callers could "
        "tell by its speed that somebody has asked the same",
    )  # fmt: skip
    max_queue: int = setting(
        512, NUMBER, (WEB, ENGINE), "requests that may wait for a place; 0: none, but for the one whose model is "
        "loaded next", ollama=("OLLAMA_MAX_QUEUE",),
    )  # fmt: skip
    load_timeout_s: float = setting(
        300.0, LIMIT, (WEB,), "longest wait of a request that only loads, the load itself goes on; 0: for ever",
        ollama=("OLLAMA_LOAD_TIMEOUT",),
    )  # fmt: skip
    first_event_timeout_s: float = setting(
        600.0, SECONDS, (WEB,), "longest wait for the first token, a load before it included", low=0.001,
    )  # fmt: skip
    idle_event_timeout_s: float = setting(120.0, SECONDS, (WEB,), "longest silence inside a stream", low=0.001)
    step_timeout_s: float = setting(
        600.0, SECONDS, (ENGINE,), "longest step of the engine, after which it is replaced; 0: for ever",
    )  # fmt: skip
    engine_timeout_s: float = setting(
        30.0, SECONDS, (ENGINE,), "longest time without a sign of life of the engine process, after which it is "
        "replaced; 0: for ever",
    )  # fmt: skip
    watch_disconnect: bool = setting(
        True, BOOL, (WEB,), "stop work for callers that hang up; off for callers that half-close",
    )  # fmt: skip
    max_body_bytes: int = setting(64 * 2**20, SIZE, (WEB,), "largest request body", low=1)
    max_blob_bytes: int = setting(2**40, SIZE, (WEB,), "largest file that `/api/blobs` takes", low=1)
    body_timeout_s: float = setting(
        30.0, SECONDS, (WEB,), "how long 64 KB of a request's body may take", low=0.001,
    )  # fmt: skip
    duration_unit: str = setting(
        "ns", TEXT, (WEB,), "`seconds` gives durations as fractions of seconds", choices=("ns", "seconds"),
    )  # fmt: skip
    # answers that are kept
    store_responses: bool = setting(
        True, BOOL, (WEB,), "keep answers of `/v1/responses` for later requests, readable by the server's user alone, "
        "in the home; off: `store` is always false",
    )  # fmt: skip
    stored_responses_bytes: int = setting(
        256 * 2**20, SIZE, (WEB,), "what they may take together (never more than 100,000 responses); the oldest leave "
        "first", low=2**20,
    )  # fmt: skip
    stored_responses_s: float = setting(30 * 86400.0, SECONDS, (WEB,), "how long they stay: 30 days", low=1)
    # safety
    keys_file: str = setting(
        "", FILE, (GUNICORN, WEB, CLI), "the API keys; while there is such a file every request needs one. One "
        "that is named here has to be there: without it no server starts, and an application that mounts us lets "
        "nobody in",
        origin="keys.json in the home",
    )  # fmt: skip
    insecure_no_auth: bool = setting(
        False, BOOL, (GUNICORN,), "listen without keys on addresses that others can reach",
    )  # fmt: skip
    trust_remote_code: bool = setting(
        False, BOOL, (WEB,), "whether a pull may fetch a repository's own code; the engine never runs it",
    )  # fmt: skip
    allow_pickle: bool = setting(
        False, BOOL, (WEB,), "whether create may convert pickled weights (`pytorch_model.bin`); they are read in a "
        "process of its own that builds nothing but tensors",
    )  # fmt: skip
    # what is written
    log_level: str = setting(
        "info", TEXT, (GUNICORN, WEB, ENGINE), "how much is logged; a mounted application's own logging set-up is left "
        "alone", choices=LEVELS,
    )  # fmt: skip
    log_levels: tuple[str, ...] = setting(
        (), LOG_LEVELS, (WEB, ENGINE), "levels of parts that differ, such as `engine=debug`; parts: `web`, `dialects`, "
        "`operations`, `client`, `store`, `engine`, `ipc`, `access`. A file `log-levels` in the run folder with such "
        "lines changes them while the server runs",
    )  # fmt: skip
    log_format: str = setting(
        "text", TEXT, (GUNICORN, WEB, ENGINE), "`json` writes an object a line", choices=("text", "json"),
    )  # fmt: skip
    access_log: bool = setting(
        True, BOOL, (WEB,), "a line for each request: status, key, model, tokens, where the time went; never what was "
        "said",
    )  # fmt: skip
    tracing: bool = setting(
        False, BOOL, (WEB,), "send a trace of each request by OTLP over HTTP (`pip install 'hugging-llama[otel]'`); "
        "where to, and which, by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, "
        "…)",
    )  # fmt: skip
    audit_log: str = setting(
        "", FILE_TO_WRITE, (WEB,), "a file for one line of JSON for each thing that is done to the models, and by "
        "whom; never what is said to them",
    )  # fmt: skip

    def to_json(self) -> str:
        """The settings as JSON, for the engine process; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Raises TypeError on a field this version does not know."""
        values: dict[str, Any] = json.loads(text)
        lists = {name: tuple(values.get(name, ())) for name, default in DEFAULTS.items() if isinstance(default, tuple)}
        return cls(**values | lists)

    @property
    def keys_path(self) -> str:
        """Where the keys lie: in the file that the operator names, which has to be there, else in the home, where they
        may be; "" without a home."""
        return self.keys_file or (os.path.join(self.home, "keys.json") if self.home else "")

    def find_hub_token(self) -> str:
        """The token for the Hub of this moment: the setting, else what its file holds now; "" if there is none."""
        return self.hub_token or (read_token(self.hub_token_file) if self.hub_token_file else "")

    @property
    def fingerprint(self) -> str:
        """Names the engine that these settings need; two servers share an engine only if all settings agree."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


SETTINGS: Mapping[str, Setting] = described_fields(Settings)
DEFAULTS: Mapping[str, Any] = {name: found.default for name, found in SETTINGS.items()}
GROUPS: Mapping[str, str] = {
    "host": "Where it listens",
    "home": "Where things lie",
    "preload": "Models in memory",
    "max_num_seqs": "Requests",
    "store_responses": "Answers that are kept",
    "keys_file": "Safety",
    "log_level": "What is written",
}
"""The title above the first setting of each part."""
