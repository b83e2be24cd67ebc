"""The client against the application itself, over an engine that plays a script."""

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from hugging_llama import create_app
from hugging_llama.neutral.events import Finished, FinishReason, Loaded, TextDelta, ThinkingDelta, Usage
from hugging_llama.neutral.models import LoadedModel
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import QuietHandler
from tests.cli.terminal_session import IDLE_PROMPT, TerminalSession

_LOADED = LoadedModel(
    name="hugging-llama/demo:latest", path="/models/demo", digest="0" * 64, size_bytes=100, size_vram_bytes=0,
    context_length=2048, expires_at_s=math.inf, ref_count=1, device="cpu", dtype="bfloat16", runner="batched",
)  # fmt: skip
_REPLY = (
    ThinkingDelta("Hm."),
    TextDelta("Hello"),
    TextDelta(" you."),
    Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=3, num_output_tokens=2, decode_ns=10**9)),
)


@pytest.fixture
def app_url(tmp_path: Path) -> Iterator[str]:
    environ = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:1"}
    # the watching thread lives as long as its process, and this process goes on to other tests
    settings = load_settings({"watch_disconnect": False}, environ)
    engine = ScriptedEngine(generate=_REPLY, load=(Loaded(model=_LOADED),), loaded=(_LOADED,))
    server = make_server(
        "127.0.0.1", 0, create_app(settings, engine=engine), threaded=True, request_handler=QuietHandler
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_commands(invoke: Invoke, app_url: str) -> None:
    code, out, _ = invoke("list", "--url", app_url)
    assert code == 0
    assert out.splitlines()[1].startswith("hugging-llama/demo:latest    ")
    assert "architecture        llama" in invoke("show", "demo", "--url", app_url)[1]
    assert "    weights     8.5 MB\n" in invoke("show", "demo", "--memory", "--num-ctx", "300", "--url", app_url)[1]
    assert invoke("show", "demo", "--modelfile", "--url", app_url)[1].count("FROM hugging-llama/demo:latest\n") == 1
    assert invoke("show", "org/else", "--url", app_url)[0] == 1
    assert invoke("ps", "--url", app_url)[1] == "hugging-llama/demo:latest: refs=1 expires=never\n"
    assert "speaks Ollama API version" in invoke("version", "--url", app_url)[1]


def test_a_parameter_that_can_not_be_is_refused_when_it_is_set(environ: dict[str, str], app_url: str) -> None:
    with TerminalSession([*MODULE, "run", "demo", "--url", app_url], environ) as session:
        session.expect_screen(IDLE_PROMPT)
        refused = 'Error: option "temperature" must be of type float32\n'
        assert session.say("/set parameter temperature hot") == refused
        assert session.say("hi").startswith("Thinking..."), "it was not kept"
        assert "User defined" not in session.say("/show parameters")
        assert session.say("/set").startswith("Settings:\n  /set system TEXT\n")
        session.send("/bye\r")
        assert session.finish() == 0


def test_the_context_of_an_estimate_is_no_parameter_of_the_model(invoke: Invoke, app_url: str) -> None:
    plain = invoke("show", "demo", "--url", app_url)[1]
    code, out, err = invoke("show", "demo", "--num-ctx", "300", "--url", app_url)
    assert (code, err) == (0, "")
    assert "Memory (context of 300 tokens)" in out
    assert out.partition("  Memory")[0] == plain.partition("  Memory")[0]
    shown = json.loads(invoke("show", "demo", "--num-ctx", "300", "--json", "--url", app_url)[1])
    assert shown["memory"]["num_ctx"] == 300
    assert "num_ctx" not in shown["parameters"]
    for flag in ([], ["--json"], ["--memory"], ["--memory", "--json"]):
        code, out, err = invoke("show", "demo", "--num-ctx", "99999999", *flag, "--url", app_url)
        assert (code, "99999999" in out) == (0, False)
        assert err == "Warning: 'demo' takes at most 2048 tokens, not 99999999: the estimate is for 2048\n"
    for flag in (["--parameters"], ["--modelfile"]):
        code, out, err = invoke("show", "demo", "--num-ctx", "300", *flag, "--url", app_url)
        assert (code, out, err) == (
            2,
            "",
            f"Error: --num-ctx is for the estimate of memory, which {flag[0]} leaves out\n",
        )


def test_run(invoke: Invoke, app_url: str) -> None:
    argv = ["run", "demo", "hi", "--verbose", "--keepalive", "10m", "--format", "json", "--think", "--url", app_url]
    code, out, err = invoke(*argv)
    assert (code, out) == (0, "Thinking...\nHm.\n...done thinking.\n\nHello you.\n")
    assert "eval rate:            2.00 tokens/s" in err


def test_errors_of_the_application(invoke: Invoke, app_url: str) -> None:
    code, out, err = invoke("embed", "org/none", "x", "--url", app_url)
    assert (code, out) == (1, "")
    assert "not found" in err
    assert err.count("\n") == 1
    code, _, err = invoke("run", "org/none", "x", "--url", app_url)
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: ")


def test_chat(environ: dict[str, str], app_url: str) -> None:
    with TerminalSession([*MODULE, "run", "demo", "--url", app_url], environ) as session:
        session.expect_screen(IDLE_PROMPT)
        assert session.say("hi") == "Thinking...\nHm.\n...done thinking.\n\nHello you.\n\n"
        assert session.say("again").endswith("Hello you.\n\n")
        # what a value may be is the server's to say
        assert session.say("/set parameter temperature abc") == (
            'Error: option "temperature" must be of type float32\n'
        )
        assert session.say("/set parameter min_p 2").startswith('Error: option "min_p" must be between 0 and 1')
        assert session.say("/set parameter min_p 0.5") == "Set parameter 'min_p' to '0.5'\n"
        assert session.say("third").endswith("Hello you.\n\n")
        session.send("/bye\r")
        assert session.finish() == 0


def test_what_the_server_does_nothing_with_is_told(invoke: Invoke, app_url: str) -> None:
    modelfile = "FROM demo\nPARAMETER num_gpu 0\nPARAMETER num_thread 4\nPARAMETER top_k 5\n"
    code, out, err = invoke("create", "mine", "-f", "-", "--url", app_url, stdin=modelfile)
    assert (code, out) == (0, "created 'mine'\n")
    assert err.splitlines()[0] == "Warning: the server does nothing with the parameters num_gpu, num_thread"
    code, out, err = invoke("create", "mine", "-f", "-", "--json", "--url", app_url, stdin=modelfile)
    assert json.loads(out.splitlines()[-1]) == {"status": "success"}
    assert err == "Warning: the server does nothing with the parameters num_gpu, num_thread\n"
    assert "top_k" in invoke("show", "mine", "--parameters", "--url", app_url)[1]


def test_a_chat_tells_it_once(environ: dict[str, str], app_url: str) -> None:
    warning = "Warning: the server does nothing with the parameter {}\n"
    with TerminalSession([*MODULE, "run", "demo", "--url", app_url], environ) as session:
        session.expect_screen(IDLE_PROMPT)
        told = warning.format("num_gpu") + "Set parameter 'num_gpu' to '0'\n"
        assert session.say("/set parameter num_gpu 0") == told
        assert session.say("hi") == "Thinking...\nHm.\n...done thinking.\n\nHello you.\n\n"
        assert session.say("/set parameter main_gpu 0").startswith(warning.format("main_gpu"))
        assert session.say("again").startswith("Thinking...")
        session.send("/bye\r")
        assert session.finish() == 0
