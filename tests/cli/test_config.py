"""`hugging-llama config`: each value, where it comes from, and nothing secret."""

import json
from pathlib import Path

import pytest

from hugging_llama_config.settings import SETTINGS
from tests.cli.conftest import MODULE, Invoke, RunCli
from tests.cli.terminal_session import TerminalSession

SECRET = "hf_very_secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".config" / "hugging-llama" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'max_queue = 7\nhub_token = "{SECRET}"\nhub_endpoint = "https://me:{SECRET}@hub.example"\n'
        'origins = ["https://a.example", "https://b.example", "https://a.very.long.name.of.a.site.example"]\n'
    )
    return path


def test_each_value_and_where_it_is_from(invoke: Invoke, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_LLAMA_WORKERS", "3")
    code, out, err = invoke("config", "show")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split("    ") for line in out.splitlines()}
    assert rows.keys() == {"SETTING"} | SETTINGS.keys()
    found = {name: [cell.strip() for cell in row if cell.strip()][1:] for name, row in rows.items()}
    assert found["max_queue"] == ["7", str(file)]
    assert found["workers"] == ["3", "HUGGING_LLAMA_WORKERS"]
    assert found["hub_token"] == ["(set)", str(file)]
    assert found["hub_endpoint"] == ["https://***@hub.example", str(file)]
    assert found["port"][1] == "OLLAMA_HOST"
    assert found["quantize"] == ["none", "default"]
    changed = invoke("config", "show", "--changed")[1]
    assert {line.split()[0] for line in changed.splitlines()[1:]} == {
        "host", "port", "workers", "max_queue", "hub_token", "hub_endpoint", "origins",
    }  # fmt: skip
    assert SECRET not in out


def test_a_flag_of_serve(invoke: Invoke, file: Path) -> None:
    code, out, err = invoke(
        "config", "show", "--changed", "--port", "1999", "--max-queue=9", "--origins", "https://c.example"
    )
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert (rows["port"], rows["max_queue"]) == (["1999", "--port"], ["9", "--max-queue"])
    assert rows["origins"][-1] == "--origins"
    code, _, err = invoke("config", "show", "--port", "abc")
    assert (code, err) == (1, "Error: --port: 'abc' is not a whole number\n")
    assert "[--SETTING VALUE ...]" in invoke("config", "--help")[1]


def test_json_for_scripts(invoke: Invoke, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_LLAMA_KEEP_ALIVE_S", "-1")
    code, out, _ = invoke("config", "show", "--json")
    assert code == 0
    told = json.loads(out, parse_constant=pytest.fail)
    assert told["files"] == [str(file)]
    assert (told["errors"], told["warnings"]) == ([], [])
    settings = told["settings"]
    assert settings["max_queue"] == {"value": 7, "from": str(file)}
    assert settings["keep_alive_s"] == {"value": "forever", "from": "HUGGING_LLAMA_KEEP_ALIVE_S"}
    assert settings["hub_token"] == {"value": None, "is_set": True, "from": str(file)}
    assert settings["standby_engine"]["value"] is True
    assert SECRET not in out


def test_what_is_wrong_goes_to_stderr_beside_what_can_be_used(invoke: Invoke, file: Path) -> None:
    file.write_text("workers = 0\nmax_queue = 7\nportt = 1\n")
    code, out, err = invoke("config", "show", "--changed")
    assert code == 1
    assert ["max_queue", "7", str(file)] in [line.split() for line in out.splitlines()]
    assert err == (
        f"Error: {file}: workers: must be from 1 to 512, not 0\n"
        f"Error: {file}: unknown setting 'portt'; did you mean 'port'?\n"
    )
    assert invoke("config", "check", str(file)) == (1, "", err)
    assert json.loads(invoke("config", "check", str(file), "--json")[1])["errors"][0].endswith("not 0")


def test_a_file_is_checked_alone(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("max_queue = 7\n")
    assert invoke("config", "check", str(path)) == (0, f"{path}: nothing is wrong with it\n", "")
    assert invoke("config", "show", "--config", str(path))[1].count(str(path)) == 1
    path.write_text("max_queue =\n")
    code, _, err = invoke("config", "check", str(path))
    assert code == 1
    assert err.startswith(f"Error: {path}: Invalid value")


def test_where_files_are_looked_for(invoke: Invoke, file: Path, tmp_path: Path) -> None:
    code, out, _ = invoke("config", "path")
    assert code == 0
    states = dict(line.split(maxsplit=1) for line in out.splitlines()[1:])
    assert list(states)[1:] == [str(file), str(tmp_path / ".cache" / "hugging-llama" / "config.toml")]
    assert states[str(file)] == "read"
    assert json.loads(invoke("config", "path", "--json")[1])[1] == {"path": str(file), "exists": True}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["config"], "the following arguments are required"),
        (["config", "check"], "which file?"),
        (
            ["config", "check", "x.toml", "--port", "1"],
            "'config check' takes no settings; '--port' is for 'config show'",
        ),
        (["config", "path", "--port", "1"], "'config path' takes no settings"),
        (["config", "show", "x.toml"], "takes no file; name one with --config"),
        (["config", "show", "--config", ""], "--config needs a value"),
        (["serve", "--host", ""], "--host needs a value"),
    ],
)
def test_usage(argv: list[str], message: str, invoke: Invoke) -> None:
    code, out, err = invoke(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_it_fits_the_terminal(columns: int, environ: dict[str, str], file: Path) -> None:
    with TerminalSession([*MODULE, "config", "show"], environ, columns=columns) as session:
        assert session.finish() == 0
        lines = session.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert {line.split()[0] for line in lines if line} == {"SETTING"} | SETTINGS.keys()


def test_help_of_serve_names_every_setting(cli: RunCli) -> None:
    out = cli("serve", "--help").stdout
    for setting in SETTINGS.values():
        assert f"  {setting.flag}" in out
    assert "--hub-token " not in out, "a secret has no flag"
    assert "--max-loaded-models N, --max-resident-models N" in out


def test_a_bad_value_is_told_once_and_by_the_name_that_was_given(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "missing.toml"
    assert invoke("config", "check", str(missing))[2] == f"Error: FILE: there is no file {missing}\n"
    assert invoke("config", "check", str(tmp_path))[2] == f"Error: {tmp_path} can't be read: Is a directory\n"
    monkeypatch.setenv("HUGGING_LLAMA_PORT", "abc")
    assert invoke("config", "show")[2] == "Error: HUGGING_LLAMA_PORT: 'abc' is not a whole number\n"
    assert caplog.messages == []
