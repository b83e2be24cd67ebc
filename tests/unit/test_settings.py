"""Settings from flags, environment and file, and the address grammar."""

import logging
import math
from dataclasses import fields
from pathlib import Path

import pytest

from hugging_llama_config.client import load_client_settings
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.host import HostUrl, parse_host
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


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:11434"),
        ({"OLLAMA_LOCAL_PORT": "8123"}, "http://127.0.0.1:8123"),
        ({"OLLAMA_LOCAL_PORT": "99999"}, "http://127.0.0.1:11434"),
        ({"OLLAMA_HOST": "10.0.0.1", "OLLAMA_LOCAL_PORT": "8123"}, "http://10.0.0.1:8123"),
        ({"OLLAMA_HOST": "10.0.0.1:1", "OLLAMA_LOCAL_PORT": "8123"}, "http://10.0.0.1:1"),
        ({"OLLAMA_HOST": "10.0.0.1:1", "HUGGING_LLAMA_PORT": "2"}, "http://10.0.0.1:2"),
        ({"OLLAMA_HOST": "10.0.0.1:1", "HUGGING_LLAMA_HOST": "10.0.0.2"}, "http://10.0.0.2:1"),
        ({"OLLAMA_HOST": "0.0.0.0:1"}, "http://127.0.0.1:1"),
        ({"HUGGING_LLAMA_HOST": "[::1]", "HUGGING_LLAMA_PORT": "3"}, "http://[::1]:3"),
        ({"HUGGING_LLAMA_HOST": "", "HUGGING_LLAMA_PORT": "", "OLLAMA_HOST": "", "OLLAMA_LOCAL_PORT": ""},
         "http://127.0.0.1:11434"),
    ],
)  # fmt: skip
def test_a_client_goes_where_the_server_of_its_environment_listens(environ: dict[str, str], url: str) -> None:
    settings = load_settings(environ={"HOME": "/nowhere", **environ})
    assert HostUrl(host=settings.host, port=settings.port).url == url
    assert load_client_settings(environ=environ).url == url
    assert load_client_settings("far:5", environ).url == "http://far:5"


def test_a_port_of_the_file_is_the_one_that_ollamas_host_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 8123")
    settings = load_settings(environ={"HUGGING_LLAMA_HOME": str(tmp_path), "OLLAMA_HOST": "0.0.0.0"})
    assert (settings.host, settings.port) == ("0.0.0.0", 8123)


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


def test_folders_of_models_are_a_list_of_paths(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('model_dirs = ["/srv/models", "~/a, b"]\n')
    environ = {"HOME": str(tmp_path), "HUGGING_LLAMA_CONFIG": str(config)}
    settings = load_settings(environ=environ)
    assert settings.model_dirs == ("/srv/models", str(Path("~/a, b").expanduser()))
    assert Settings.from_json(settings.to_json()) == settings
    assert load_settings(environ=environ | {"HUGGING_LLAMA_MODEL_DIRS": "/a: /b :"}).model_dirs == ("/a", "/b")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MODEL_DIRS", "/a:models", "'models' is not an absolute path"),
        ("PORT", "many", "'many' is not a whole number"),
        ("PORT", "70000", "must be from 0 to 65535, not 70000"),
        ("PORT", "11k", "'11k' is not a whole number"),
        ("WORKERS", "0", "must be from 1 to 512, not 0"),
        ("WORKERS", "1_0", "'1_0' is not a whole number"),
        ("MAX_QUEUE", "-3", "must be at least 0, not -3"),
        ("MAX_QUEUE", "9" * 5000, "is not a whole number"),
        ("CONTEXT_LENGTH", "4GB", "'4GB' is not a whole number"),
        ("NUM_THREADS", "-1", "must be from 0 to 4096"),
        ("KV_CACHE_BYTES", "much", "is not a size"),
        ("MAX_BODY_BYTES", "0", "must be at least 1"),
        ("FIRST_EVENT_TIMEOUT_S", "0", "must be at least 0.001"),
        ("IDLE_EVENT_TIMEOUT_S", "0s", "must be at least 0.001"),
        ("GRACEFUL_TIMEOUT_S", "-1", "must be from 0 to 86400, not inf"),
        ("KEEP_ALIVE_S", "5 days", "time: "),
        ("KEEP_ALIVE_S", "nan", "is not a duration"),
        ("HOST", "0.0.0.0:80", "the port is a setting of its own"),
        ("DTYPE", "int3", "'int3' is none of"),
        ("TRUST_REMOTE_CODE", "perhaps", "neither true nor false"),
        ("CONFIG", "/nowhere/config.toml", "there is no file"),
    ],
)
def test_our_own_variables_are_read_strictly(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={f"HUGGING_LLAMA_{variable}": value})
    assert str(caught.value).startswith(f"HUGGING_LLAMA_{variable}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flag_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="workers: must be from 1"):
        load_settings({"workers": 0}, {})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("portt = 1", "unknown setting 'portt'"),
        ("port = 1.5", "port: '1.5' is not a whole number"),
        ("workers = 0", "workers: must be from 1"),
        ('host = ["a", "b"]', "host: must be a single value"),
        ("[port]", "port: must be a single value"),
        ("port =", "Invalid value"),
    ],
)
def test_the_file_is_read_strictly(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"HUGGING_LLAMA_HOME": str(tmp_path)})
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    empty = {f"HUGGING_LLAMA_{f.name.upper()}": " " for f in fields(Settings)}
    assert load_settings(environ={**home, **empty, "HUGGING_LLAMA_CONFIG": ""}) == load_settings(environ=home)


def test_sizes_may_have_units_and_durations_may_be_for_ever() -> None:
    environ = {"HUGGING_LLAMA_KV_CACHE_BYTES": "8GB", "HUGGING_LLAMA_IDLE_EVENT_TIMEOUT_S": "-1"}
    settings = load_settings(environ=environ)
    assert settings.kv_cache_bytes == 8 * 10**9
    assert math.isinf(settings.idle_event_timeout_s)
    assert math.isinf(load_settings(environ={"OLLAMA_KEEP_ALIVE": "1e30"}).keep_alive_s)


@pytest.mark.parametrize("value", ["0", "-1", "-5m"])
@pytest.mark.parametrize("variable", ["OLLAMA_LOAD_TIMEOUT", "HUGGING_LLAMA_LOAD_TIMEOUT_S"])
def test_a_load_without_time_limit(variable: str, value: str) -> None:
    assert math.isinf(load_settings(environ={variable: value}).load_timeout_s)


def test_the_home_is_where_the_settings_file_lies(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("max_queue = 7\n")
    settings = load_settings(environ={"HUGGING_LLAMA_HOME": str(tmp_path)})
    assert (settings.max_queue, settings.home) == (7, str(tmp_path))


def test_a_tilde_is_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    environ = {f"HUGGING_LLAMA_{name}": f"~/{name}" for name in ("HOME", "RUN_DIR", "HUB_CACHE")}
    settings = load_settings(environ=environ)
    assert (settings.home, settings.run_dir, settings.hub_cache) == tuple(
        f"/home/x/{name}" for name in ("HOME", "RUN_DIR", "HUB_CACHE")
    )


def test_ollamas_variables_are_read_leniently(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings = load_settings(
            environ={"OLLAMA_KEEP_ALIVE": "???", "OLLAMA_MAX_QUEUE": "-3", "OLLAMA_NUM_PARALLEL": "99999"}
        )
    assert (settings.keep_alive_s, settings.max_queue, settings.max_num_seqs) == (300, 512, 64)
    for variable in ("OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_QUEUE", "OLLAMA_NUM_PARALLEL"):
        assert variable in caplog.text


def test_a_zero_of_ollamas_is_its_automatic() -> None:
    assert load_settings(environ={"OLLAMA_NUM_PARALLEL": "0", "OLLAMA_MAX_QUEUE": "0"}).max_queue == 512
    assert load_settings(environ={"OLLAMA_KEEP_ALIVE": "0"}).keep_alive_s == 0


def test_a_negative_keep_alive_is_for_ever() -> None:
    assert math.isinf(load_settings(environ={"OLLAMA_KEEP_ALIVE": "-1"}).keep_alive_s)
    assert load_settings(environ={"OLLAMA_KEEP_ALIVE": "90"}).keep_alive_s == 90


def test_the_bounds_of_what_is_kept_of_answers() -> None:
    environ = {"HUGGING_LLAMA_STORED_RESPONSES_BYTES": "1GiB", "HUGGING_LLAMA_STORED_RESPONSES_S": "168h"}
    settings = load_settings(environ=environ | {"HUGGING_LLAMA_STORE_RESPONSES": "false"})
    assert (settings.stored_responses_bytes, settings.stored_responses_s) == (2**30, 7 * 86400)
    assert not settings.store_responses
    for name, text in (("STORED_RESPONSES_BYTES", "1000"), ("STORED_RESPONSES_S", "0"), ("STORE_RESPONSES", "some")):
        with pytest.raises(ConfigError, match=name):
            load_settings(environ={f"HUGGING_LLAMA_{name}": text})


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
