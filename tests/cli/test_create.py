"""`create`: what is sent for a Modelfile, and the files that go with it."""

import hashlib
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from hugging_llama_cli.api import Server
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.upload import CountedFile
from hugging_llama_config.client import load_client_settings
from tests.cli.conftest import MODULE, Invoke, RunCli
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import TerminalSession


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _model(folder: Path, **more: str) -> Path:
    files = {"config.json": "{}", "tokenizer.json": "{ }", "model.safetensors": "weights"} | more
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_a_modelfile_of_texts(invoke: Invoke, server: StubServer, folder: Path) -> None:
    (folder / "Modelfile").write_text(
        'FROM demo\nADAPTER org/lora\nPARAMETER temperature 0.5\nPARAMETER stop a\nPARAMETER stop b\n'
        'TEMPLATE """{{ .Prompt }}"""\nSYSTEM Be brief.\nLICENSE MIT\nLICENSE Apache\nMESSAGE user Hi\n'
        "MESSAGE assistant Hello.\nREQUIRES 0.14.0\nPARAMETER mirostat 1\n"
    )  # fmt: skip
    code, out, err = invoke("create", "mine", "-q", "int8")
    assert (code, out) == (0, "created 'mine'\n")
    assert err == "Warning: parameter mirostat is deprecated and was left out\nwriting manifest\nsuccess\n"
    assert server.bodies("/api/create") == [
        {
            "model": "mine", "from": "demo", "adapters": "org/lora", "quantize": "int8", "stream": True,
            "parameters": {"temperature": 0.5, "stop": ["a", "b"]}, "template": "{{ .Prompt }}", "system": "Be brief.",
            "license": ["MIT", "Apache"], "requires": "0.14.0",
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
        }
    ]  # fmt: skip


def test_flags_win_over_the_modelfile(invoke: Invoke, server: StubServer, folder: Path) -> None:
    (folder / "other").write_text("FROM demo\nSYSTEM a\nPARAMETER seed 1\nPARAMETER top_k 5\n")
    invoke("create", "mine", "--file", "other", "--system", "b", "--parameter", "seed=2")
    body = server.bodies("/api/create")[0]
    assert (body["system"], body["parameters"]) == ("b", {"seed": 2, "top_k": 5})


def test_without_a_modelfile(invoke: Invoke, server: StubServer, folder: Path) -> None:
    assert invoke("create", "mine", "--from", "demo", "-q", "int4")[:2] == (0, "created 'mine'\n")
    assert server.bodies("/api/create") == [
        {"model": "mine", "from": "demo", "parameters": {}, "quantize": "int4", "stream": True}
    ]
    missing = "Error: specified Modelfile wasn't found: there is no "
    hint = " here; name one with -f, or a model with --from"
    assert invoke("create", "mine") == (1, "", f"{missing}'Modelfile'{hint}\n")
    assert invoke("create", "mine", "-f", "no/where") == (1, "", f"{missing}'no/where'\n")
    assert invoke("create", "mine", "-f", ".") == (1, "", "Error: '.' can't be read: Is a directory\n")
    assert invoke("create", "mine", "-f", "a", "--from", "b")[0] == 2
    for text in ("temperature", "=1"):
        code, _, err = invoke("create", "mine", "--from", "demo", "--parameter", text)
        assert (code, err) == (2, f"Error: --parameter takes NAME=VALUE, not '{text}'\n")
    assert len(server.bodies("/api/create")) == 1


def test_a_modelfile_that_is_piped_in(invoke: Invoke, server: StubServer, folder: Path) -> None:
    assert invoke("create", "mine", "-f", "-", stdin="FROM demo\n")[0] == 0
    assert server.bodies("/api/create")[0]["from"] == "demo"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(encoding: str, invoke: Invoke, server: StubServer, folder: Path) -> None:
    (folder / "Modelfile").write_bytes("FROM demo\nSYSTEM é\n".encode(encoding))
    assert invoke("create", "mine")[0] == 0
    assert server.bodies("/api/create")[0]["system"] == "é"
    (folder / "Modelfile").write_bytes(b"FROM \xff\n")
    assert invoke("create", "mine")[2] == "Error: 'Modelfile' is no Modelfile: it is not text, or too long\n"


def test_a_folder_is_sent(cli: RunCli, server: StubServer, folder: Path) -> None:
    names = {
        "model-00001-of-00002.safetensors": "one", "model-00002-of-00002.safetensors": "two",
        "model.safetensors.index.json": "{}", "config.json": "{}", "generation_config.json": "{  }",
        "chat_template.jinja": "{{ messages }}", "tokenizer.model": "spm", "vocab.txt": "a", "merges.txt": "b",
    }  # fmt: skip
    left = {"consolidated.safetensors": "x", "README.md": "x", ".hidden.json": "x", "pytorch_model.bin": "x",
            "onnx/model.safetensors": "x", "notes.txt": "x", "1_Pooling/config.json": "x"}  # fmt: skip
    _model(folder / "weights" / "mine", **names, **left)
    (folder / "weights" / "mine" / "model.safetensors").unlink()
    (folder / "weights" / "Modelfile").write_text("FROM ./mine\nSYSTEM x\n")
    result = cli("create", "mine", "-f", str(folder / "weights" / "Modelfile"))
    assert (result.returncode, result.stdout) == (0, "created 'mine'\n"), result.stderr
    names["tokenizer.json"] = "{ }"
    body = server.bodies("/api/create")[0]
    assert body["files"] == {name: _digest(text) for name, text in names.items()}
    assert "from" not in body
    assert server.blobs == {_digest(text): text.encode() for text in names.values()}
    lines = result.stderr.splitlines()
    assert lines[0] == "hashing 10 files (36 B)"
    assert "uploading model-00001-of-00002.safetensors (3 B)" in lines
    assert lines[-2:] == ["writing manifest", "success"]
    sent = server.bodies(f"/api/blobs/{_digest('one')}")
    assert (sent[0]["Content-Length"], sent[0].get("Transfer-Encoding")) == ("3", None)


def test_what_the_server_has_is_not_sent(invoke: Invoke, server: StubServer, folder: Path) -> None:
    _model(folder / "m")
    (folder / "Modelfile").write_text("FROM m\n")
    server.blobs[_digest("weights")] = b"weights"
    code, _, err = invoke("create", "mine")
    assert code == 0
    assert "uploading model.safetensors" not in err
    assert not server.bodies(f"/api/blobs/{_digest('weights')}")
    server.requests.clear()
    assert invoke("create", "mine")[0] == 0
    assert all(path.startswith(("HEAD ", "/api/create")) for path, _ in server.requests)


def test_modules_of_sentence_transformers_are_sent(invoke: Invoke, server: StubServer, folder: Path) -> None:
    _model(folder / "m", **{"modules.json": "[]", "1_Pooling/config.json": "p", "2_Dense/model.safetensors": "d",
                            "2_Dense/notes.md": "x", "runs/config.json": "x"})  # fmt: skip
    (folder / "Modelfile").write_text(f"FROM {folder / 'm'}\n")
    assert invoke("create", "mine")[0] == 0
    assert server.bodies("/api/create")[0]["files"].keys() == {
        "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "config.json", "tokenizer.json",
        "model.safetensors",
    }  # fmt: skip


def test_an_adapter_is_sent(invoke: Invoke, server: StubServer, folder: Path) -> None:
    _model(folder / "lora", **{"adapter_config.json": "{}", "adapter_model.safetensors": "lora"})
    (folder / "Modelfile").write_text("FROM demo\nADAPTER ./lora\n")
    assert invoke("create", "mine")[0] == 0
    body = server.bodies("/api/create")[0]
    assert body["from"] == "demo"
    assert body["adapters"] == {"adapter_config.json": _digest("{}"), "adapter_model.safetensors": _digest("lora")}
    (folder / "lora" / "adapter_config.json").unlink()
    assert invoke("create", "mine")[2] == (
        "Error: (line 2): the folder 'lora' is no adapter: it has no adapter_config.json\n"
    )


def test_single_files(invoke: Invoke, server: StubServer, folder: Path) -> None:
    (folder / "tiny.gguf").write_text("GGUF")
    (folder / "Modelfile").write_text("FROM ./tiny.gguf\n")
    assert invoke("create", "mine")[0] == 0
    assert server.bodies("/api/create")[0]["files"] == {"tiny.gguf": _digest("GGUF")}
    (folder / "gguf").mkdir()
    (folder / "gguf" / "tiny.gguf").write_text("GGUF")
    (folder / "Modelfile").write_text("FROM gguf\n")
    assert invoke("create", "mine")[0] == 0
    assert server.bodies("/api/create")[1]["files"] == {"tiny.gguf": _digest("GGUF")}


def test_pickled_weights_are_sent_where_there_are_no_others(invoke: Invoke, server: StubServer, folder: Path) -> None:
    weights = {"pytorch_model-00001-of-00002.bin": "one", "pytorch_model-00002-of-00002.bin": "two"}
    kept = weights | {"pytorch_model.bin.index.json": "{}"}
    _model(folder / "old", **kept, **{"optimizer.bin": "x", "training_args.bin": "x"})
    (folder / "old" / "model.safetensors").unlink()
    (folder / "Modelfile").write_text("FROM old\n")
    assert invoke("create", "mine")[0] == 0
    sent = server.bodies("/api/create")[0]["files"]
    assert {name: sent.get(name) for name in kept} == {name: _digest(text) for name, text in kept.items()}
    assert not {"optimizer.bin", "training_args.bin"} & sent.keys()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("FROM ./nothing", "(line 1): there is no file or folder './nothing'"),
        ("FROM /nowhere/x.gguf", "(line 1): there is no file or folder '/nowhere/x.gguf'"),
        ("FROM ./notes.txt", "(line 1): 'notes.txt' is neither a folder nor a .safetensors or .gguf file"),
        ("FROM empty", "(line 1): the folder 'empty' has no safetensors or GGUF weights; if the model of that name is "
         "meant, write 'empty:latest'"),
        ("FROM ./empty", "(line 1): the folder 'empty' has no safetensors or GGUF weights"),
        ("FROM ./lora", "(line 1): the folder 'lora' is an adapter: name it after ADAPTER, and its base model after "
         "FROM"),
        ("FROM ./ggufs", "(line 1): the folder 'ggufs' has 2 GGUF files: name one of them"),
        ("FROM ./pipe.safetensors", "(line 1): 'pipe.safetensors' is no file that can be sent"),
    ],
)  # fmt: skip
def test_sources_that_make_no_model(line: str, message: str, invoke: Invoke, server: StubServer, folder: Path) -> None:
    for name in ("empty", "lora", "ggufs"):
        (folder / name).mkdir()
    (folder / "notes.txt").write_text("x")
    (folder / "lora" / "adapter_model.safetensors").write_text("x")
    for name in ("a.gguf", "b.gguf"):
        (folder / "ggufs" / name).write_text("x")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "Modelfile").write_text(f"{line}\n")
    assert invoke("create", "mine") == (1, "", f"Error: {message}\n")
    assert not server.requests


def test_names_that_are_no_paths(invoke: Invoke, server: StubServer, folder: Path) -> None:
    for name in ("org/name:tag", "hf.co/org/name", "/srv/models/far", "~nobody-here/x" + "y" * 300, "a" * 5000):
        (folder / "Modelfile").write_text(f"FROM {name}\n")
        assert invoke("create", "mine")[0] == (1 if name.startswith("~") else 0)
    assert [body["from"] for body in server.bodies("/api/create")] == [
        "org/name:tag", "hf.co/org/name", "/srv/models/far", "a" * 5000
    ]  # fmt: skip


def test_links_may_not_lead_out_of_the_folder(invoke: Invoke, server: StubServer, folder: Path, tmp_path: Path) -> None:
    model = _model(folder / "m", **{"blobs/real": "weights"})
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("blobs/real")
    (folder / "Modelfile").write_text("FROM ./m\n")
    assert invoke("create", "mine")[0] == 0, "a link inside is a file like others"
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(secret)
    server.requests.clear()
    code, out, err = invoke("create", "mine")
    assert (code, out) == (1, "")
    assert err.startswith("Error: (line 1): 'm/config.json' is a link that leads out of its folder; ")
    assert not server.requests
    (folder / "linked").symlink_to(_model(tmp_path / "elsewhere"))
    (folder / "Modelfile").write_text("FROM ./linked\n")
    assert invoke("create", "mine")[0] == 0, "which folder is meant is the user's to say"


def test_an_empty_file_is_sent(invoke: Invoke, server: StubServer, folder: Path) -> None:
    _model(folder / "m", **{"vocab.txt": ""})
    (folder / "Modelfile").write_text("FROM ./m\n")
    assert invoke("create", "mine")[0] == 0
    assert server.blobs[_digest("")] == b""


def test_a_file_that_becomes_shorter_while_it_is_sent(server: StubServer, folder: Path) -> None:
    (folder / "shrunk").write_text("w" * 10)
    with (folder / "shrunk").open("rb") as file:
        body, to = CountedFile(file, 10**6, lambda count: None), Server(load_client_settings(server.url))
        with pytest.raises(CliError, match="shrunk' became shorter while it was sent"):
            to.upload(f"/api/blobs/{_digest('w')}", body)
    assert not server.blobs


def test_a_server_that_hangs_up_on_a_file(invoke: Invoke, folder: Path) -> None:
    (folder / "big.gguf").write_text("w" * 10**7)
    (folder / "Modelfile").write_text("FROM ./big.gguf\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                for path in (b"/ ", b"/api/blobs/"):
                    assert connection.recv(65536).startswith(b"HEAD " + path)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                assert connection.recv(100).startswith(b"POST ")
                # closed with bytes unread, as it is by a server that will not read the body
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=refuse)
        thread.start()
        code, _, err = invoke("create", "mine", "--url", url)
        thread.join()
    assert code == 1
    assert err.splitlines()[-1] == (
        f"Error: the server at {url} broke off its answer; the file may be too large for it, its log says why"
    )


def test_a_refusal_of_the_server_ends_it(invoke: Invoke, server: StubServer, folder: Path) -> None:
    server.create_events = [{"status": "converting model"}, {"error": "no config.json"}]
    assert invoke("create", "mine", "--from", "demo")[0::2] == (1, "converting model\nError: no config.json\n")
    server.create_events = [{"status": "converting model"}]
    assert invoke("create", "mine", "--from", "demo")[2].splitlines()[-1] == (
        "Error: the server ended the creation before it was complete"
    )


def test_steps_that_count_have_bars(environ: dict[str, str], server: StubServer, folder: Path) -> None:
    _model(folder / "m")
    (folder / "Modelfile").write_text("FROM ./m\n")
    server.create_events = [
        {"status": "converting model"},
        {"status": "quantizing F16 model to Q4_0", "digest": "0" * 19, "total": 2000, "completed": 1000},
        {"status": "quantizing F16 model to Q4_0", "digest": "0" * 19, "total": 2000, "completed": 2000},
        {"status": "success"},
    ]
    with TerminalSession([*MODULE, "create", "mine"], environ, columns=100) as session:
        assert session.finish() == 0
    lines = [line.rstrip() for line in session.text.splitlines() if line.strip()]
    assert any(line.startswith("hashing 3 files") and " 100% " in line for line in lines)
    assert any(line.startswith("uploading model.safetensors") and " 100% " in line for line in lines)
    assert any(line.startswith("quantizing F16 model to Q4_0") and " 100% " in line for line in lines)
    assert lines[-2:] == ["success", "created 'mine'"]
