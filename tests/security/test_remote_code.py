"""Row P2: what a model may do is the operator's to say; no request changes it."""

from dataclasses import asdict
from typing import Any

import pytest

from hugging_llama_config.env import load_settings
from hugging_llama_config.launch import engine_settings
from tests.functional.field_probes import ENDPOINTS, Endpoint, World

SWITCHES = (
    "trust_remote_code", "auto_map", "attn_implementation", "use_safetensors", "weights_only", "allow_pickle",
    "code_revision", "custom_generate", "hub_endpoint", "HF_ENDPOINT", "endpoint", "token", "cache_dir",
)  # fmt: skip


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {str(key) for key in value} | {key for item in value.values() for key in _keys(item)}
    if isinstance(value, list | tuple):
        return {key for item in value for key in _keys(item)}
    return set()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_p2_a_request_can_not_switch_on_code(world: World, endpoint: Endpoint) -> None:
    """On its own, as an option, or as a parameter of a model that is made: nothing of it gets to the engine."""
    for name in SWITCHES:
        for more in (
            {name: True},
            {"options": {name: True}},
            {"parameters": {name: "evil/repo"}},
            {"model_kwargs": {name: True}, "extra_body": {name: True}, "chat_template_kwargs": {name: True}},
        ):
            world.engine.requests.clear()
            model = {"model": "acme/pushed"} if endpoint.path in ("/api/pull", "/api/push") else {}
            if model and name != "trust_remote_code":
                continue  # would be a transfer like any other
            response = world.client.open(
                endpoint.path, method=endpoint.method, json={**endpoint.base, **model, **more, "stream": False}
            )
            assert response.status_code < 500 or endpoint.path == "/api/pull", (name, response.text)
            for request in world.engine.requests:
                assert name not in _keys(asdict(request))
            if endpoint.path == "/api/pull" and name in more:  # elsewhere in the body it is no field
                assert response.status_code == 400
                assert "does not allow remote code" in response.text
            world.client.delete("/api/delete", json={"model": "mine"})


def test_p2_off_by_default_and_unknown_to_the_engine() -> None:
    assert not load_settings(environ={}).trust_remote_code
    allowed = load_settings(environ={"HUGGING_LLAMA_TRUST_REMOTE_CODE": "true", "HUGGING_LLAMA_ALLOW_PICKLE": "true"})
    assert not engine_settings(allowed).trust_remote_code
    assert not engine_settings(allowed).allow_pickle
