"""Uploaded adapters over HTTP, through gunicorn and engine: what merged models say, from one copy of their base."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.engine.adapters import make_adapter, merged
from tests.engine.checkpoints import DEMO
from tests.live_server import LiveServer, live_server

BASE = "hugging-llama/demo"
PROMPT = "The sea is"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("live")
    with live_server(folder, folder / "hub", dtype="float32") as server:
        yield server


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    return found


def create(live: LiveServer, name: str, folder: Path) -> requests.Response:
    """A model of the demo model and an uploaded adapter."""
    adapters = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert requests.post(f"{live.url}/api/blobs/{digest}", data=content, timeout=60).ok
        adapters[file.name] = digest
    body = {"model": name, "from": BASE, "adapters": adapters, "stream": False}
    return requests.post(f"{live.url}/api/create", json=body, timeout=60)


def generate(live: LiveServer, model: str) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 12}
    body = {"model": model, "prompt": PROMPT, "raw": True, "stream": False, "options": options}
    found: dict[str, Any] = requests.post(f"{live.url}/api/generate", json=body, timeout=60).json()
    return found


def expected(model: PreTrainedModel) -> str:
    """What transformers' own `generate` says."""
    tokenizer: Any = AutoTokenizer.from_pretrained(DEMO)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.generate(ids, max_new_tokens=12, do_sample=False)  # type: ignore[operator]
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def test_models_with_adapters_share_their_base(live: LiveServer, base: PreTrainedModel, tmp_path: Path) -> None:
    folders = {f"mine-{i}": make_adapter(tmp_path / str(i), base, seed=i, rank=8, size=0.2) for i in (1, 2)}
    for name, folder in folders.items():
        created = create(live, name, folder)
        assert created.json() == {"status": "success"}, created.text
    want = {name: expected(merged(base, folder)) for name, folder in folders.items()} | {BASE: expected(base)}
    assert len(set(want.values())) == 3
    with ThreadPoolExecutor(6) as clients:
        found = list(clients.map(lambda name: (name, generate(live, name)["response"]), [*want, *want]))
    assert found == [*want.items(), *want.items()]
    (row,) = requests.get(f"{live.url}/api/ps", timeout=60).json()["models"]
    assert row["size"] > 0


def test_an_adapter_of_another_model_is_refused(live: LiveServer, base: PreTrainedModel, tmp_path: Path) -> None:
    smaller = merged(base, make_adapter(tmp_path / "any", base))
    smaller.get_submodule("model.layers.0.self_attn").q_proj = torch.nn.Linear(8, 256, bias=False)
    refused = create(live, "other", make_adapter(tmp_path / "other", smaller, ("q_proj",)))
    assert refused.status_code == 400
    assert "the adapter is for another model: it takes model.layers.0.self_attn.q_proj" in refused.json()["error"]
    assert generate(live, BASE)["done"]
