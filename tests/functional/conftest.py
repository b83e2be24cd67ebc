"""The real application over an engine that plays a script; no process, no model."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama import create_app
from hugging_llama.neutral.models import LoadedModel
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from hugging_llama_config.settings import Settings
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files

LOADED = LoadedModel(
    name="hugging-llama/demo:latest", path="", digest="0" * 64, size_bytes=100, size_vram_bytes=0, context_length=2048,
    expires_at_s=math.inf, ref_count=1, device="cpu", dtype="bfloat16", runner="batched",
    runner_reason="the batch computes what the model computes alone",
)  # fmt: skip

_SCRIPTS = ("generate", "embed", "classify", "tokenize", "detokenize", "load", "loaded")

MakeClient = Callable[..., tuple[FlaskClient, ScriptedEngine]]


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub cache with the real all-MiniLM-L6-v2."""
    cache = tmp_path_factory.mktemp("hub")
    add_to_hub_cache(cache, MINILM, minilm_files())
    return cache


@pytest.fixture
def settings(tmp_path: Path, hub_cache: Path) -> Settings:
    environ = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(hub_cache), "HUGGING_LLAMA_RUN_DIR": str(tmp_path / "run")}
    return load_settings(environ=environ)


@pytest.fixture
def make_client(settings: Settings) -> MakeClient:
    """`make_client(generate=[...], duration_unit="seconds")`: a Flask client and the engine behind it."""

    def make(**options: Any) -> tuple[FlaskClient, ScriptedEngine]:
        scripts = {name: options.pop(name) for name in _SCRIPTS if name in options}
        engine = ScriptedEngine(**scripts)
        return create_app(replace(settings, **options), engine=engine).test_client(), engine

    return make


@pytest.fixture
def plain_client(make_client: MakeClient, tmp_path: Path) -> MakeClient:
    """Like `make_client`, with a model `acme/plain` that can complete text and nothing else."""
    files = tmp_path / "plain"
    files.mkdir()
    (files / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    (files / "tokenizer.json").write_text("{}")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (files / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    cache = tmp_path / "plain-cache"
    add_to_hub_cache(cache, "acme/plain", files)
    return lambda **options: make_client(hub_cache=str(cache), **options)
