"""What nobody was let do stands in the audit log, too."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.web import refusals
from hugging_llama.web.limits import Bucket
from hugging_llama_config.keys import add_key, new_key
from tests.functional.conftest import MakeClient

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


AUDITED = {
    "pull": ("POST", "/api/pull", {"model": "other/x"}),
    "push": ("POST", "/api/push", {"model": "other/x"}),
    "create": ("POST", "/api/create", {"model": "other/x", "from": "demo"}),
    "copy": ("POST", "/api/copy", {"source": "demo", "destination": "other/x"}),
    "delete": ("DELETE", "/api/delete", {"model": "other/x"}),
    "upload": ("POST", f"/api/blobs/{DIGEST}", {}),
}


def test_what_was_refused_is_told(make_client: MakeClient, log: Path, tmp_path: Path) -> None:
    """Without a key, with one that may not, and with one whose patterns do not cover the model."""
    keys, headers = str(tmp_path / "keys.json"), []
    for name, options in {"user": {"roles": ("use",)}, "mine": {"roles": ("manage",), "models": ("acme/*",)}}.items():
        key, secret = new_key(name, **options)
        add_key(keys, replace(key, id=name))
        headers.append({"x-api-key": secret})
    client, _ = make_client(audit_log=str(log), keys_file=keys)
    for who, outcome, given in (("anonymous", "key_rejected", {}), ("user", "forbidden", headers[0])):
        for action, (method, path, body) in AUDITED.items():
            status = client.open(path, method=method, json=body, headers=given).status_code
            line = lines(log)[-1]
            assert (status, line["action"], line["who"], line["outcome"]) == (
                401 if who == "anonymous" else 403, action, who, outcome,
            )  # fmt: skip
            assert line.get("digest") == (DIGEST if action == "upload" else None)
    for action, (method, path, body) in AUDITED.items():
        if action != "upload":
            assert client.open(path, method=method, json=body, headers=headers[1]).status_code == 403
            line = lines(log)[-1]
            assert (line["action"], line["who"], line["outcome"]) == (action, "mine", "forbidden")
            assert line["model"] in ("other/x", "demo")
    assert len(lines(log)) == 17
    assert all(
        line.keys() >= {"time", "who", "address", "action", "outcome", "request_id", "duration_s"}
        for line in lines(log)
    )
    client.post("/api/chat", json={"model": "demo"})
    client.get("/api/blobs/x")
    assert len(lines(log)) == 17


def test_who_is_let_in_nowhere_fills_no_disk(
    make_client: MakeClient, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "Bucket", partial(Bucket, clock=lambda: 1000.0))
    keys = str(tmp_path / "keys.json")
    key, secret = new_key("user", roles=("use",))
    add_key(keys, key)
    client, _ = make_client(audit_log=str(log), keys_file=keys)
    for _ in range(refusals.LINES_PER_MINUTE + 5):
        assert client.delete("/api/delete", json={"model": "demo"}).status_code == 401
    assert len(lines(log)) == refusals.LINES_PER_MINUTE
    client.delete("/api/delete", json={"model": "demo"}, headers={"x-api-key": secret})
    assert lines(log)[-1]["who"] == key.id
