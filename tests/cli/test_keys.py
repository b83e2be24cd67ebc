"""`hugging-llama keys`: the file is changed, and nothing secret is shown twice."""

import json
from pathlib import Path

import pytest

from hugging_llama_config.keys import KeyFileError, hash_of, read_keys
from tests.cli.conftest import Invoke

FILE = Path(".cache", "hugging-llama", "keys.json")


def test_a_keys_life(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("keys", "list")[1].startswith("No keys: there is no file ")
    code, secret, err = invoke(
        "keys", "add", "ci", "--role", "use", "--role", "metrics", "--model", "qwen/*", "--requests-per-minute", "60",
        "--tokens-per-minute", "1000", "--priority", "2",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert secret.startswith("hl-")
    (key,) = read_keys(str(tmp_path / FILE))
    assert key.sha256 == hash_of(secret.strip())
    assert (key.name, key.roles, key.models, key.priority) == ("ci", ("use", "metrics"), ("qwen/*",), 2)
    assert (key.requests_per_minute, key.tokens_per_minute) == (60, 1000)
    assert secret.strip() not in (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    listed = invoke("keys", "list")[1]
    assert listed.splitlines()[0].split() == ["NAME", "ID", "ROLES", "MODELS", "LIMITS", "CREATED"]
    assert "60 requests/min, 1000 tokens/min, priority 2" in listed
    assert secret.strip() not in listed
    assert invoke("keys", "revoke", key.id) == (0, "revoked 'ci'\n", "")
    assert read_keys(str(tmp_path / FILE)) == ()


def test_a_key_may_use_models_and_nothing_else_by_default(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("keys", "add", "me")[0] == 0
    (key,) = read_keys(str(tmp_path / FILE))
    assert (key.roles, key.models, key.requests_per_minute) == (("use",), (), 0)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["add"], 2, "a key's name is made of letters"),
        (["add", "a b"], 2, "a key's name is made of letters"),
        (["add", "me"], 1, "there is a key 'me' already"),
        (["add", "x", "--role", "god"], 2, "invalid choice: 'god'"),
        (["add", "x", "--tokens-per-minute", "-1"], 2, "'-1' is not a number"),
        (["revoke", "nobody"], 1, "there is no key 'nobody'"),
        (["revoke"], 2, "which key?"),
        (["forget", "me"], 2, "invalid choice: 'forget'"),
    ],
)
def test_what_can_not_be(invoke: Invoke, argv: list[str], code: int, message: str) -> None:
    invoke("keys", "add", "me")
    found = invoke("keys", *argv)
    assert (found[0], found[1]) == (code, "")
    assert message in found[2]
    assert found[2].count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{"id": "x"}]}'])
def test_a_damaged_file_is_told_and_left_alone(invoke: Invoke, tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    for argv in (["list"], ["add", "x"], ["revoke", "x"]):
        code, out, err = invoke("keys", *argv, "--file", str(path))
        assert (code, out) == (1, "")
        assert str(path) in err
    assert path.read_text() == text
    with pytest.raises(KeyFileError):
        read_keys(str(path))


def test_the_command_line_sends_its_key(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from hugging_llama_config.client import load_client_settings

    monkeypatch.setenv("OLLAMA_API_KEY", "theirs")
    assert load_client_settings().api_key == "theirs"
    monkeypatch.setenv("HUGGING_LLAMA_API_KEY", "ours")
    assert load_client_settings().api_key == "ours"


def test_the_file_is_json_that_people_can_read(invoke: Invoke, tmp_path: Path) -> None:
    invoke("keys", "add", "me")
    table = json.loads((tmp_path / FILE).read_text())
    assert (table["format"], table["keys"][0]["name"]) == (1, "me")
