"""A login at the Hub that is made, changed or removed while the server runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama import create_app
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.hub_server import BAD_TOKEN, GOOD_TOKEN, READ_TOKEN, Repo, StandInHub
from tests.store import models

GATED = "acme/tiny"


@pytest.fixture
def environ(tmp_path: Path, hub: StandInHub) -> dict[str, str]:
    """Of a server whose user has never logged in."""
    hub.repos[GATED] = Repo(models.chat_model(), access="gated")
    (tmp_path / "hf").mkdir()
    return {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.endpoint}


@pytest.fixture
def login(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "token"


def _client(environ: Mapping[str, str], **values: Any) -> FlaskClient:
    settings = load_settings({"watch_disconnect": False, **values}, environ)
    return create_app(settings, engine=ScriptedEngine()).test_client()


def _pull(client: FlaskClient) -> str:
    """How it ended: "success" or the error."""
    response = client.post("/api/pull", json={"model": GATED})
    last = json.loads(response.text.splitlines()[-1])
    return str(last.get("error") or last["status"])


def _memory(client: FlaskClient) -> int:
    return client.post("/api/show", json={"model": GATED, "remote": True}).status_code


def _push(client: FlaskClient, **headers: str) -> str:
    response = client.post("/api/push", json={"model": "me/mine"}, headers=headers)
    return str(json.loads(response.text.splitlines()[-1]).get("error"))


def test_pulls_use_the_login_of_the_moment(environ: dict[str, str], login: Path) -> None:
    client = _client(environ)
    assert "set a token" in _pull(client)
    assert _memory(client) == 403
    login.write_text(f"{GOOD_TOKEN}\n")
    assert _memory(client) == 200
    assert _pull(client) == "success"
    login.write_text(BAD_TOKEN)
    assert "rejects the token" in _pull(client)
    login.unlink()
    assert "set a token" in _pull(client)


def test_pushes_use_the_login_of_the_moment_behind_that_of_the_caller(environ: dict[str, str], login: Path) -> None:
    client = _client(environ)
    assert client.post("/api/copy", json={"source": "demo", "destination": "me/mine"}).status_code == 200
    assert "takes models from known users only" in _push(client)
    login.write_text(READ_TOKEN)
    assert "does not let this token write" in _push(client)
    assert "rejects the token" in _push(client, **{"X-HF-Token": BAD_TOKEN})
    login.unlink()
    assert "takes models from known users only" in _push(client)


@pytest.mark.parametrize(
    ("variables", "values", "end"),
    [
        ({"HF_TOKEN": BAD_TOKEN}, {}, "rejects the token"),
        ({"HUGGING_LLAMA_HUB_TOKEN": BAD_TOKEN}, {}, "rejects the token"),
        ({}, {"hub_token": BAD_TOKEN}, "rejects the token"),
        ({}, {"hub_token": ""}, "set a token"),
        ({"HF_TOKEN": BAD_TOKEN, "HUGGING_LLAMA_HUB_TOKEN_FILE": "{login}"}, {}, "success"),
        ({"HF_TOKEN_PATH": "{folder}/none"}, {"hub_token_file": "{login}"}, "success"),
        ({"HF_TOKEN_PATH": "{folder}/none"}, {}, "set a token"),
        ({"HF_TOKEN_PATH": "{login}", "HF_HOME": "{folder}"}, {}, "success"),
    ],
)
def test_which_token_wins(
    environ: dict[str, str],
    login: Path,
    tmp_path: Path,
    variables: dict[str, str],
    values: dict[str, str],
    end: str,
) -> None:
    login.write_text(GOOD_TOKEN)
    filled, given = (
        {name: text.format(login=login, folder=tmp_path / "other") for name, text in texts.items()}
        for texts in (variables, values)
    )
    assert end in _pull(_client(environ | filled, **given))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\n"])
def test_a_login_that_can_t_be_read_is_none(environ: dict[str, str], login: Path, content: bytes) -> None:
    login.write_bytes(content)
    assert "set a token" in _pull(_client(environ))
