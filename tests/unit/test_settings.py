"""Settings from flags, environment and file, and the address grammar."""

import logging
import math
from dataclasses import fields
from pathlib import Path

import pytest

from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.host import client_url, parse_host
from hugging_llama_config.settings import Settings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:99", "http://[::1]:99"),
        (":66000", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        (' "example.com" ', "http://example.com:11434"),
    ],
)
def test_ollama_host_grammar(text: str, url: str) -> None:
    assert parse_host(text).url == url


def test_the_clients_address_comes_from_host_or_port() -> None:
    assert client_url({}) == "http://127.0.0.1:11434"
    assert client_url({"OLLAMA_LOCAL_PORT": "8123"}) == "http://127.0.0.1:8123"
    assert client_url({"OLLAMA_LOCAL_PORT": "99999"}) == "http://127.0.0.1:11434"
    assert client_url({"OLLAMA_HOST": "far:1", "OLLAMA_LOCAL_PORT": "8123"}) == "http://far:1"


def test_flags_win_over_our_variables_over_ollamas_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('max_queue = 1\nmax_num_seqs = 1\nport = 1\nkeep_alive_s = "1m"\npreload = ["a", "b"]\n')
    environ = {
        "HOME": str(tmp_path),
        "HUGGING_LLAMA_CONFIG": str(config),
        "OLLAMA_MAX_QUEUE": "2",
        "OLLAMA_NUM_PARALLEL": "2",
        "OLLAMA_HOST": ":2",
        "HUGGING_LLAMA_MAX_NUM_SEQS": "3",
        "HUGGING_LLAMA_PORT": "3",
    }
    settings = load_settings({"port": 4, "workers": None}, environ)
    assert (settings.max_queue, settings.max_num_seqs, settings.port) == (2, 3, 4)
    assert settings.keep_alive_s == 60
    assert settings.preload == ("a", "b")
    assert settings.workers == Settings().workers


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HUGGING_LLAMA_PORT", "many", "HUGGING_LLAMA_PORT: 'many' is not a whole number"),
        ("HUGGING_LLAMA_PORT", "70000", "port must be from 0 to 65535"),
        ("HUGGING_LLAMA_DTYPE", "int3", "HUGGING_LLAMA_DTYPE: 'int3' is none of"),
        ("HUGGING_LLAMA_TRUST_REMOTE_CODE", "perhaps", "neither true nor false"),
        ("HUGGING_LLAMA_KEEP_ALIVE", "5 days", "HUGGING_LLAMA_KEEP_ALIVE"),
        ("HUGGING_LLAMA_CONFIG", "/nowhere/config.toml", "there is no file"),
    ],
)
def test_our_own_variables_are_read_strictly(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={variable: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ollamas_variables_are_read_leniently(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings = load_settings(
            environ={"OLLAMA_KEEP_ALIVE": "???", "OLLAMA_MAX_QUEUE": "-3", "OLLAMA_NUM_PARALLEL": "x"}
        )
    assert settings.keep_alive_s == 300
    assert settings.max_queue == 512
    assert {"OLLAMA_KEEP_ALIVE" in caplog.text, "OLLAMA_MAX_QUEUE" in caplog.text} == {True}


def test_a_negative_keep_alive_is_for_ever() -> None:
    assert math.isinf(load_settings(environ={"OLLAMA_KEEP_ALIVE": "-1"}).keep_alive_s)
    assert load_settings(environ={"OLLAMA_KEEP_ALIVE": "90"}).keep_alive_s == 90


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("portt = 1\n")
    with pytest.raises(ConfigError, match="portt"):
        load_settings(environ={"HUGGING_LLAMA_CONFIG": str(path)})


def test_settings_survive_the_way_to_the_engine() -> None:
    settings = load_settings({"preload": ("demo",), "keep_alive_s": math.inf}, {"HOME": "/home/x"})
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(settings.to_json()).fingerprint == settings.fingerprint


def test_the_token_is_not_printed() -> None:
    assert "hf_secret" not in repr(load_settings(environ={"HF_TOKEN": "hf_secret"}))


def test_the_readme_lists_exactly_the_settings() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    listed = {line.split("`")[1] for line in readme.splitlines() if line.startswith("| `HUGGING_LLAMA_")}
    assert listed == {f"HUGGING_LLAMA_{f.name.upper()}" for f in fields(Settings)} | {"HUGGING_LLAMA_CONFIG"}
