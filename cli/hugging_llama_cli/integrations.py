"""How other programs are pointed at this server, as their own documentation has it."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama_cli.user_files import with_json, with_yaml_item, with_yaml_keys

NAME = "hugging-llama"
KEY_VARIABLE = "HUGGING_LLAMA_API_KEY"
NO_KEY = NAME
"""What clients send that insist on a key, to a server that asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to be pointed at; `key` is "" for a server without keys."""

    url: str
    model: str
    key: str = ""

    @property
    def v1(self) -> str:
        """Where OpenAI's clients begin."""
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A file below the user's home; `change` gives its new text, from the old one. Raises MergeError.

    `blockers` are files that the program reads as well, and that can't be changed without losing their comments.
    """

    path: str
    change: Callable[[str], str]
    blockers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """A program: what to set by hand, the file that holds it, and how to start it then."""

    title: str
    setup: str = ""
    file: ConfigFile | None = None
    then: str = ""


def claude(target: Target) -> Integration:
    """Claude Code reads variables from its settings; the base URL is the root."""
    env = {
        "ANTHROPIC_BASE_URL": target.url,
        "ANTHROPIC_AUTH_TOKEN": target.key or NO_KEY,
        "ANTHROPIC_MODEL": target.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.model,
    }
    file = ConfigFile(path=".claude/settings.json", change=lambda text: with_json(text, {"env": env}))
    return Integration(title="Claude Code", setup=_exports(env), file=file, then="claude")


def codex(target: Target) -> Integration:
    """Codex lays a profile's file over its own configuration, which stays as it is."""
    lines = [
        f"model = {_quoted(target.model)}",
        f'model_provider = "{NAME}"',
        "",
        f"[model_providers.{NAME}]",
        'name = "Hugging Llama"',
        f"base_url = {_quoted(target.v1)}",
        'wire_api = "responses"',
        *([f'env_key = "{KEY_VARIABLE}"'] if target.key else []),
    ]
    file = ConfigFile(path=f".codex/{NAME}.config.toml", change=lambda text: "\n".join(lines) + "\n")
    return Integration(title="Codex", file=file, then=f"codex --profile {NAME}")


def opencode(target: Target) -> Integration:
    """opencode has providers by the packages that speak their protocol."""
    options = {"baseURL": target.v1} | ({"apiKey": f"{{env:{KEY_VARIABLE}}}"} if target.key else {})
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Hugging Llama",
        "options": options,
        "models": {target.model: {"name": target.model}},
    }
    values = {"$schema": "https://opencode.ai/config.json", "provider": {NAME: provider}}
    folder = ".config/opencode"
    file = ConfigFile(
        path=f"{folder}/opencode.json",
        change=lambda text: with_json(text, values),
        blockers=(f"{folder}/opencode.jsonc",),
    )
    return Integration(title="opencode", file=file, then=f"opencode --model {NAME}/{target.model}")


def continue_(target: Target) -> Integration:
    """Continue speaks Ollama's own API."""
    item: dict[str, Any] = {
        "name": f"Hugging Llama {target.model}",
        "provider": "ollama",
        "model": target.model,
        "apiBase": target.url,
    } | ({"apiKey": target.key} if target.key else {})
    head = 'name: "My Config"\nversion: "0.0.1"\nschema: "v1"\n'
    file = ConfigFile(path=".continue/config.yaml", change=lambda text: with_yaml_item(text or head, "models", item))
    return Integration(title="Continue", file=file, then="choose the model in Continue's panel")


def aider(target: Target) -> Integration:
    """aider takes models of OpenAI's shape by the prefix openai/."""
    values = {
        "model": f"openai/{target.model}",
        "openai-api-base": target.v1,
        "openai-api-key": target.key or NO_KEY,
    }
    env = {"OPENAI_API_BASE": target.v1, "OPENAI_API_KEY": target.key or NO_KEY}
    file = ConfigFile(path=".aider.conf.yml", change=lambda text: with_yaml_keys(text, values))
    return Integration(title="aider", setup=_exports(env), file=file, then=f"aider --model openai/{target.model}")


def open_webui(target: Target) -> Integration:
    """Open WebUI is started with the address; in a container it needs the host's network to reach a loopback one."""
    key = f" \\\n  -e OPENAI_API_BASE_URL={target.v1} -e OPENAI_API_KEY={target.key}" if target.key else ""
    url = "" if target.key else f" \\\n  -e OLLAMA_BASE_URL={target.url}"
    setup = (
        f"docker run -d --network=host{url}{key} \\\n"
        "  -v open-webui:/app/backend/data --name open-webui --restart always ghcr.io/open-webui/open-webui:main"
    )
    return Integration(title="Open WebUI", setup=setup, then="open http://127.0.0.1:8080")


def openai_sdk(target: Target) -> Integration:
    """OpenAI's clients in any language."""
    env = {"OPENAI_BASE_URL": target.v1, "OPENAI_API_KEY": target.key or NO_KEY}
    return Integration(title="OpenAI's SDKs", setup=_exports(env), then=f'ask for the model "{target.model}"')


def anthropic_sdk(target: Target) -> Integration:
    """Anthropic's clients in any language."""
    env = {"ANTHROPIC_BASE_URL": target.url, "ANTHROPIC_API_KEY": target.key or NO_KEY}
    return Integration(title="Anthropic's SDKs", setup=_exports(env), then=f'ask for the model "{target.model}"')


def ollama_sdk(target: Target) -> Integration:
    """Ollama's clients in any language."""
    env = {"OLLAMA_HOST": target.url} | ({"OLLAMA_API_KEY": target.key} if target.key else {})
    return Integration(title="Ollama's SDKs", setup=_exports(env), then=f'ask for the model "{target.model}"')


def _quoted(text: str) -> str:
    """A string of TOML."""
    return json.dumps(text, ensure_ascii=False)


def _exports(env: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items())


INTEGRATIONS: Mapping[str, Callable[[Target], Integration]] = {
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
    "continue": continue_,
    "open-webui": open_webui,
    "aider": aider,
    "openai": openai_sdk,
    "anthropic": anthropic_sdk,
    "ollama": ollama_sdk,
}
