"""Commands that change what is on disk or in memory: cp, rm, stop; and names that are almost right."""

import json
from pathlib import Path

import pytest

from hugging_llama_cli import render
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import CHAT_MODEL, StubServer
from tests.cli.terminal_session import TerminalSession
from tests.live_server import free_port

_DEMO = "hugging-llama/demo"


def test_cp(invoke: Invoke, server: StubServer) -> None:
    assert invoke("cp", _DEMO, "mine") == (0, f"copied '{_DEMO}' to 'mine'\n", "")
    assert server.bodies("/api/copy") == [{"source": _DEMO, "destination": "mine"}]
    assert invoke("cp", "hugging-llama/dmo", "mine") == (
        1, "", f"Error: model \"hugging-llama/dmo\" not found; did you mean '{_DEMO}'?\n"
    )  # fmt: skip


def test_stop(invoke: Invoke, server: StubServer) -> None:
    assert invoke("stop", _DEMO) == (0, "", "")
    assert server.bodies("/api/generate") == [{"model": _DEMO, "keep_alive": 0, "stream": False}]
    assert invoke("stop", "zzz") == (1, "", 'Error: couldn\'t find model "zzz" to stop\n')
    assert invoke("stop", "hugging-llama/demoo")[2].endswith(f"; did you mean '{_DEMO}'?\n")


def test_rm_unloads_first_and_goes_on_after_a_failure(invoke: Invoke, server: StubServer) -> None:
    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    server.freed_bytes = 1_234_000_000
    code, out, err = invoke("rm", _DEMO, "zzz", "hugging-llama/dmo", minilm)
    assert (code, out) == (1, f"deleted '{_DEMO}' (1.2 GB freed)\ndeleted '{minilm}' (1.2 GB freed)\n")
    assert err == (
        f"Error: model 'zzz' not found\nError: model 'hugging-llama/dmo' not found; did you mean '{_DEMO}'?\n"
    )
    assert [path for path, _ in server.requests] == [
        "/api/generate", "/api/delete",
        "/api/generate", "/api/delete", "/api/tags",
        "/api/generate", "/api/delete", "/api/tags",
        "/api/generate", "/api/delete",
    ]  # fmt: skip
    code, out, err = invoke("rm", "--json", "zzz", minilm)
    assert (code, json.loads(out)["deleted"], err) == (1, minilm, "Error: model 'zzz' not found\n")
    server.freed_bytes = 0
    assert invoke("rm", _DEMO)[1] == f"deleted '{_DEMO}'\n"


def test_rm_goes_on_when_the_model_can_not_be_stopped(invoke: Invoke, server: StubServer) -> None:
    server.models = [*server.models, CHAT_MODEL | {"name": "some/gated"}]
    assert invoke("rm", "some/gated") == (
        0, "deleted 'some/gated'\n", "Warning: unable to stop model 'some/gated'\n"
    )  # fmt: skip


def test_without_a_server_one_line_says_so(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "model.safetensors").write_text("weights")
    (tmp_path / "Modelfile").write_text("FROM .")
    monkeypatch.chdir(tmp_path)
    for command in (("rm", "mine", "other"), ("create", "mine")):
        message = f"Error: could not connect to Hugging Llama at {url}; is it running, and is the address right?\n"
        assert invoke(*command, "--url", url) == (1, "", message), "nor is anything hashed"


def test_a_name_that_is_almost_right(invoke: Invoke, server: StubServer) -> None:
    server.pull_events = [{"error": "pull model manifest: file does not exist"}]
    code, _, err = invoke("run", "hugging-llama/dmo", "hi")
    assert code == 1
    assert err == f"Error: pull model manifest: file does not exist; did you mean '{_DEMO}'?\n"
    assert invoke("run", "zzz", "hi")[2] == "Error: pull model manifest: file does not exist\n"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (200, ["NAME                                             ID              SIZE      MODIFIED"]),
        (80, ["NAME                                           ID            SIZE    MODIFIED"]),
        (76, ["NAME                                           SIZE    MODIFIED"]),
        (60, ["NAME                                           SIZE"]),
        (40, ["NAME                              SIZE", "sentence-transf..LM-L6-v2:latest  90 MB"]),
    ],
)
def test_tables_fit_the_terminal(columns: int, expected: list[str], environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "list"], environ, columns=columns) as session:
        assert session.finish() == 0
    lines = session.text.splitlines()
    assert lines[0] == expected[0]
    assert all(line in lines for line in expected)
    assert all(len(line) <= columns for line in lines)
    assert len(lines) == 3


def test_a_table_without_a_terminal_is_whole() -> None:
    rows = [["a" * 300, "b"]]
    assert render.table(["NAME", "ID"], rows) == render.table(["NAME", "ID"], rows, 0, ["ID"])
    assert "a" * 300 in render.table(["NAME", "ID"], rows)
    assert render.table(["NAME"], [["a" * 300]], 5).splitlines()[1] == "aaaaaaa..aaaaaaa", "never less than 16"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_catalog_fits_the_terminal(columns: int, environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "catalog", "--all", "--memory", "24GB"], environ, columns=columns) as session:
        assert session.finish() == 0
    rows = [line for line in session.text.splitlines() if "GB " in line and "(" not in line]
    assert len(rows) == 40
    assert all(len(row) <= columns for row in rows)
    has_fit_last = all(row.endswith(("fits", "fits with int8", "fits with int4", "does not fit")) for row in rows)
    assert has_fit_last == (columns < 200)
