"""Settings from flags, environment and file, and the address grammar."""

import logging
import math
import re
import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hugging_llama_config import files, kinds
from hugging_llama_config.client import load_client_settings
from hugging_llama_config.described import Setting
from hugging_llama_config.env import ConfigError, GivenFlag, load, load_settings
from hugging_llama_config.host import HostUrl, parse_host
from hugging_llama_config.settings import SETTINGS, Settings

ROOT = Path(__file__).parents[2]


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
        ({"OLLAMA_HOST": "10.0.0.1:+1"}, "http://10.0.0.1:1"),
        ({"OLLAMA_HOST": "10.0.0.1:1", "HUGGING_LLAMA_PORT": "+2"}, "http://10.0.0.1:2"),
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
        ("KEEP_ALIVE_S", "5 days", "'5 days' is not a duration; write seconds, or for example 5m"),
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
        ("HUGGING_LLAMA_PORT = 1", "unknown setting 'HUGGING_LLAMA_PORT'; did you mean 'port'?"),
        ("[server]", "unknown setting 'server'"),
        ("port = 1.5", "port: must be a whole number from 0 to 65535, not 1.5"),
        ("port = '1'", "port: must be a whole number from 0 to 65535, not a text"),
        ("port = true", "port: must be a whole number from 0 to 65535, not true"),
        ("workers = 0", "workers: must be from 1"),
        ("prefix_cache = 1", "prefix_cache: must be true or false, not 1"),
        ("keep_alive_s = 2001-01-01", "keep_alive_s: must be a duration, not a date or time"),
        ("dtype = 'int3'", "dtype: 'int3' is none of auto, bfloat16, float16, float32"),
        ('host = ["a", "b"]', "host: must be an address or a name, not a list"),
        ("[port]", "port: must be a whole number from 0 to 65535, not a table"),
        ("preload = [1]", "preload: must be a list of texts, and has 1"),
        ('preload = ["a,b"]', "preload: 'a,b' may not have a ','"),
        ('trusted_proxies = ["proxy"]', "trusted_proxies: 'proxy' is not an address or a network"),
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


def test_a_zero_of_ollamas_is_its_automatic_where_ollama_has_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.toml").write_text(
        "max_num_seqs = 7\nmax_loaded_models = 7\ncontext_length = 7\nmax_queue = 7\nnoprune = true"
    )
    names = ("NUM_PARALLEL", "MAX_LOADED_MODELS", "CONTEXT_LENGTH", "MAX_QUEUE", "NOPRUNE", "KEEP_ALIVE")
    environ = {"HUGGING_LLAMA_HOME": str(tmp_path), **{f"OLLAMA_{name}": "0" for name in names}}
    settings = load_settings(environ=environ)
    assert (settings.max_num_seqs, settings.max_loaded_models, settings.context_length) == (7, 7, 7)
    assert (settings.max_queue, settings.noprune, settings.keep_alive_s) == (0, False, 0)
    assert caplog.records == []


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


def test_the_documents_say_what_the_code_says() -> None:
    script = runpy.run_path(str(ROOT / "tools" / "settings.py"))
    assert script["document"]() == script["DOCUMENT"].read_text()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `HUGGING_LLAMA_")]
    assert len(rows) > 10
    defaults = {setting.variable: setting.default_text for setting in SETTINGS.values()}
    for row in rows:
        for variable, default in zip(
            re.findall("HUGGING_LLAMA_[A-Z_]+", row.split("|")[1]), row.split("|")[2].split(", "), strict=False
        ):
            assert variable == "HUGGING_LLAMA_CONFIG" or defaults[variable].startswith(default.strip(" `"))


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_is_described_whole(setting: Setting) -> None:
    assert setting.meaning
    assert set(setting.read_by) <= {"gunicorn", "web", "engine", "cli"}
    assert setting.read_by
    # what the default is in text is read as the default
    if not setting.origin and setting.default not in ("", ()):
        assert setting.parse(setting.default_text) == setting.default
    assert SETTINGS.keys() == Settings().__dataclass_fields__.keys()
    assert not setting.name.endswith("_bytes") or setting.kind is kinds.SIZE
    assert not setting.name.endswith("_s") or setting.kind in (kinds.SECONDS, kinds.LIMIT)


def test_the_machines_file_then_the_users_then_the_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, user, home = (tmp_path / name / "hugging-llama" / "config.toml" for name in ("etc", "xdg", "cache"))
    for path, text in (
        (system, 'max_queue = 1\nmax_num_seqs = 1\nworkers = 1\norigins = ["https://a.example"]\npreload = "a, b"'),
        (user, "max_queue = 2\nmax_num_seqs = 2\norigins = []"),
        (home, "max_queue = 3"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr(files, "SYSTEM_FILE", system)
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    loaded = load(environ)
    assert files.read_files(environ).places == [system, user, home] == loaded.files
    settings = loaded.settings
    assert (settings.max_queue, settings.max_num_seqs, settings.workers, settings.origins) == (3, 2, 1, ())
    assert settings.preload == ("a", "b")
    named = ("max_queue", "max_num_seqs", "workers", "origins", "port")
    assert [loaded.origins[name] for name in named] == [str(home), str(user), str(system), "default", "default"]
    # a named file stands alone
    assert load(environ | {"HUGGING_LLAMA_CONFIG": str(user)}).settings.workers == Settings().workers


def test_a_home_that_a_file_names_has_a_file_of_its_own(tmp_path: Path) -> None:
    user, home = tmp_path / ".config" / "hugging-llama" / "config.toml", tmp_path / "srv" / "config.toml"
    for path, text in ((user, f"home = '{home.parent}'"), (home, "max_queue = 3")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    loaded = load({"HOME": str(tmp_path)})
    assert (loaded.settings.home, loaded.settings.max_queue) == (str(home.parent), 3)
    assert loaded.files == [user, home] == files.read_files({"HOME": str(tmp_path)}).places[1:]


def test_where_each_value_is_from(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_stored")
    environ = {
        "HOME": str(tmp_path), "HF_HOME": str(tmp_path), "OLLAMA_HOST": "0.0.0.0", "OLLAMA_LOCAL_PORT": "8123",
        "OLLAMA_MAX_QUEUE": "-1", "HUGGING_LLAMA_MAX_NUM_SEQS": "3", "OLLAMA_NUM_PARALLEL": "9",
    }  # fmt: skip
    loaded = load(environ, [GivenFlag("keep_alive_s", "--model-ttl", "5m")], {"workers": 4})
    found = {name: origin for name, origin in loaded.origins.items() if origin != "default"}
    assert found == {
        "host": "OLLAMA_HOST",
        "port": "OLLAMA_LOCAL_PORT",
        "max_num_seqs": "HUGGING_LLAMA_MAX_NUM_SEQS",
        "keep_alive_s": "--model-ttl",
        "workers": "the application",
        "hub_cache": "HF_HOME",
        "hub_token_file": "HF_HOME",
    }
    assert load(environ | {"OLLAMA_HOST": ":99"}).origins["port"] == "OLLAMA_HOST"
    assert load(environ | {"OLLAMA_HOST": "https://a"}).origins["port"] == "OLLAMA_HOST"
    assert load(environ | {"OLLAMA_HOST": ":99", "HUGGING_LLAMA_PORT": "1"}).origins["port"] == "HUGGING_LLAMA_PORT"
    assert [error for error in loaded.warnings if "OLLAMA_MAX_QUEUE" in error]


def test_all_that_is_wrong_is_found_and_the_rest_is_used(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("port = 99999\nworkers = 3\nportt = 1")
    environ = {"HOME": str(tmp_path), "HUGGING_LLAMA_CONFIG": str(path), "HUGGING_LLAMA_DEVICE": "tpu"}
    loaded = load(environ, [GivenFlag("dtype", "--dtype", "int3")])
    assert [str(error).partition(": ")[0] for error in loaded.errors] == [
        str(path), str(path), "HUGGING_LLAMA_DEVICE", "--dtype",
    ]  # fmt: skip
    assert (loaded.settings.workers, loaded.settings.port, loaded.settings.device) == (3, 11434, "auto")


def test_a_variable_that_is_no_setting_is_named_and_kubernetes_own_are_not(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "HUGGING_LLAMA_WORKRES": "3",
        "HUGGING_LLAMA_API_KEY": "x",
        "HUGGING_LLAMA_PORT": "tcp://10.0.0.1:11434",
        "HUGGING_LLAMA_PORT_11434_TCP_ADDR": "10.0.0.1",
        "HUGGING_LLAMA_SERVICE_HOST": "10.0.0.1",
        "HUGGING_LLAMA_SERVICE_PORT_HTTP": "11434",
    }
    assert load_settings(environ=environ).port == 11434
    assert caplog.messages == ["HUGGING_LLAMA_WORKRES is no setting; did you mean HUGGING_LLAMA_WORKERS?"]


def test_a_client_finds_the_server_of_the_same_files_and_does_not_mind_what_else_they_say(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 8123\nworkers = 0\nhub_token = "hf_x"')
    environ = {"HOME": str(tmp_path), "HUGGING_LLAMA_HOME": str(tmp_path)}
    client = load_client_settings(environ=environ)
    assert (client.url, client.home, client.hub_token) == ("http://127.0.0.1:8123", tmp_path, "hf_x")
    assert load_client_settings(environ=environ | {"OLLAMA_HOST": "https://a/b"}).url == "https://a:443/b"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hom": "/x"}, "hom: no such setting; did you mean 'home'?"),
        (
            {"keep_alive_s": "banana"},
            "keep_alive_s: 'banana' is not a duration; write seconds, or for example 5m or 1h30m",
        ),
        ({"max_num_seqs": "4"}, "max_num_seqs: must be a whole number from 1 to 4096, not a text"),
        ({"home": 3}, "home: must be a folder, not 3"),
        ({"insecure_no_auth": 1}, "insecure_no_auth: must be true or false, not 1"),
    ],
)
def test_what_a_program_gives_is_checked_as_what_a_file_says(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_settings(values, {"HOME": "/nowhere"})


def test_a_program_gives_values_of_the_settings_type_or_a_files(tmp_path: Path) -> None:
    given = {"keep_alive_s": "1h", "preload": ["demo"], "home": tmp_path, "audit_log": "", "origins": (), "port": 1}
    settings = load_settings(given, {"HOME": "/nowhere"})
    found = (settings.keep_alive_s, settings.preload, settings.home, settings.audit_log, settings.origins)
    assert found == (3600.0, ("demo",), str(tmp_path), "", ())
