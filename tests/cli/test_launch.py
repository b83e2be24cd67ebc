"""Other programs' files: pointed at this server, and everything else as it was."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from hugging_llama_cli.integrations import INTEGRATIONS
from hugging_llama_cli.user_files import MergeError, with_json, with_yaml_item, with_yaml_keys
from tests.cli.conftest import Invoke
from tests.cli.stub_server import StubServer

_SETTINGS = '{\n  "model": "opus",\n  "env": {"MY_OWN": "1", "ANTHROPIC_MODEL": "other"},\n  "hooks": {"Stop": []}\n}\n'
_CONTINUE = """\
# mine
name: Mine
version: 1.0.0
schema: v1

models:   # the good ones
    - name: Claude
      provider: anthropic   # paid
      model: claude
rules:
    - be kind
"""


@pytest.mark.parametrize("tool", list(INTEGRATIONS))
def test_what_is_printed_names_server_and_model(
    tool: str, invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "hl-very-secret")
    code, out, err = invoke("launch", tool)
    assert (code, err) == (0, "")
    assert server.url in out
    assert "hugging-llama/demo" in out, "the newest that can chat"
    assert "very-secret" not in out
    told = json.loads(invoke("launch", tool, "--model", "org/m", "--json")[1])
    assert told["tool"] == tool
    assert server.url in (told["shell"] or "") + (told["content"] or "")
    assert server.bodies("/api/tags") == [None], "a model that is named is not asked for"


def test_claude_code_keeps_its_settings(invoke: Invoke, tmp_path: Path, server: StubServer) -> None:
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(_SETTINGS)
    path.chmod(0o640)
    code, out, _ = invoke("launch", "claude", "--write", "--model", "org/m")
    assert code == 0
    settings = json.loads(path.read_text())
    assert (settings["model"], settings["hooks"]) == ("opus", {"Stop": []})
    env = settings["env"]
    assert (env["MY_OWN"], env["ANTHROPIC_MODEL"], env["ANTHROPIC_BASE_URL"]) == ("1", "org/m", server.url)
    backup = Path(out.strip().partition("; as it was: ")[2])
    assert backup.read_text() == _SETTINGS
    assert path.stat().st_mode & 0o777 == backup.stat().st_mode & 0o777 == 0o640
    again = invoke("launch", "claude", "--write", "--model", "org/m")
    assert again[1] == f"{path} says so already\n"
    assert len(list(path.parent.iterdir())) == 2


def test_codex_gets_a_file_of_its_own(invoke: Invoke, tmp_path: Path, server: StubServer) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text('model = "mine"\n')
    assert invoke("launch", "codex", "--write", "--model", "org/m")[0] == 0
    path = tmp_path / ".codex" / "hugging-llama.config.toml"
    profile = tomllib.loads(path.read_text())
    assert (profile["model"], profile["model_provider"]) == ("org/m", "hugging-llama")
    provider = profile["model_providers"]["hugging-llama"]
    assert provider == {"name": "Hugging Llama", "base_url": f"{server.url}/v1", "wire_api": "responses"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".codex" / "config.toml").read_text() == 'model = "mine"\n'


def test_opencode(invoke: Invoke, tmp_path: Path, server: StubServer) -> None:
    path = tmp_path / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"theme": "x", "provider": {"hugging-llama": {"models": {"old": {"name": "Old"}}}}}')
    assert invoke("launch", "opencode", "--write", "--model", "org/m")[0] == 0
    config = json.loads(path.read_text())
    assert config["theme"] == "x"
    assert config["provider"]["hugging-llama"]["models"] == {"old": {"name": "Old"}, "org/m": {"name": "org/m"}}
    (path.parent / "opencode.jsonc").write_text("{} // mine\n")
    code, _, err = invoke("launch", "opencode", "--write", "--model", "org/n")
    assert (code, err.count("\n")) == (1, 1)
    assert "comments" in err


def test_continue_keeps_comments(invoke: Invoke, tmp_path: Path, server: StubServer) -> None:
    path = tmp_path / ".continue" / "config.yaml"
    assert invoke("launch", "continue", "--write", "--model", "org/m")[0] == 0
    fresh = yaml.safe_load(path.read_text())
    assert fresh["schema"] == "v1"
    path.write_text(_CONTINUE)
    assert invoke("launch", "continue", "--write", "--model", "org/m")[0] == 0
    lines = path.read_text().splitlines()
    assert [line for line in _CONTINUE.splitlines() if line not in lines] == []
    models = yaml.safe_load(path.read_text())["models"]
    assert models[0] == fresh["models"][0] == {
        "name": "Hugging Llama org/m", "provider": "ollama", "model": "org/m", "apiBase": server.url
    }  # fmt: skip
    assert models[1]["name"] == "Claude"


def test_aider(invoke: Invoke, tmp_path: Path, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_LLAMA_API_KEY", "hl-key")
    real = tmp_path / "dotfiles.yml"
    real.write_text("# mine\nmodel: gpt-4\nread: [A.md]\n")
    path = tmp_path / ".aider.conf.yml"
    path.symlink_to(real)
    assert invoke("launch", "aider", "--write", "--model", "org/m")[0] == 0
    assert path.is_symlink()
    assert real.read_text().startswith('# mine\nmodel: "openai/org/m"\nread: [A.md]\n')
    assert yaml.safe_load(real.read_text())["openai-api-key"] == "hl-key"


@pytest.mark.parametrize("text", ["{ // a comment\n}", "[]", '{"env": 1}', "{"])
def test_a_file_that_would_lose_something_is_left_alone(invoke: Invoke, tmp_path: Path, text: str) -> None:
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(text)
    code, out, err = invoke("launch", "claude", "--write", "--model", "org/m")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "it was left alone" in err
    assert path.read_text() == text
    assert len(list(path.parent.iterdir())) == 1


def test_changes_that_lines_can_not_make_are_refused() -> None:
    item = {"name": "a", "model": "b"}
    for text in ("models: [{name: x}]\n", "models: 1\n", "models:\n  - {name: a}\n", "- a\n", "a: [\n"):
        with pytest.raises(MergeError):
            with_yaml_item(text, "models", item)
    for text in ("model: |\n  several\n  lines\n", "{model: x}\n", "--- \nmodel: x\n---\nmodel: y\n"):
        with pytest.raises(MergeError):
            with_yaml_keys(text, {"model": "z"})
    assert yaml.safe_load(with_yaml_item("a: 1", "models", item)) == {"a": 1, "models": [item]}
    assert json.loads(with_json("", {"a": {"b": 1}})) == {"a": {"b": 1}}


def test_usage(invoke: Invoke, server: StubServer) -> None:
    assert invoke("launch", "emacs")[0] == 2
    assert invoke("launch", "open-webui", "--write")[0] == 2
    server.models = [model for model in server.models if "embedding" in model["capabilities"]]
    assert invoke("launch", "codex")[2].startswith("Error: the server has no model that can chat")
