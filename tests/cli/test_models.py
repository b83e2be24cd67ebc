"""Commands that look at models: list, show, ps, embed, pull."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from hugging_llama_cli import models, render
from tests.cli.conftest import Invoke, RunCli
from tests.cli.stub_server import CHAT_MODEL, DIGEST, StubServer


def test_list(invoke: Invoke) -> None:
    code, out, err = invoke("list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "NAME                                             ID              SIZE      MODIFIED",
        "hugging-llama/demo:latest                        ab12cd34ef56    7.6 MB    " + out.splitlines()[1][-11:],
        "sentence-transformers/all-MiniLM-L6-v2:latest    ab12cd34ef56    90 MB     " + out.splitlines()[2][-11:],
    ]
    assert out.splitlines()[1].endswith(" ago")
    assert invoke("ls", "SENT")[1].count("\n") == 2


def test_list_without_models(invoke: Invoke, server: StubServer) -> None:
    server.models = []
    assert invoke("list")[1] == "NAME    ID    SIZE    MODIFIED\n"


def test_show_prints_all_metadata(invoke: Invoke) -> None:
    code, out, _ = invoke("show", "hugging-llama/demo")
    assert code == 0
    for title in ("Model", "Capabilities", "Parameters", "License", "On disk", "Details"):
        assert f"  {title}\n" in out
    for fact in (
        "    architecture        llama",
        "    parameters          3.72M",
        "    context length      2048",
        "    embedding length    256",
        "    quantization        BF16",
        "    tools",
        '    stop                           "<|im_end|>"',
        "  License\n    Apache License\n    Version 2.0\n    ...",
        "  Memory (context of 2048 tokens)\n    weights     7.4 MB\n    KV cache    2.0 MB\n",
        DIGEST,
        "7.6 MB (7572444 bytes)",
        "2024-05-08T12:00:00.123456789+02:00 (",
        "    format      safetensors",
    ):
        assert fact in out


@pytest.mark.parametrize(
    "name", ["hugging-llama/demo:latest", "HUGGING-LLAMA/Demo", "hf.co/hugging-llama/demo", "demo", "Demo:latest"]
)
def test_show_understands_every_spelling(name: str, invoke: Invoke) -> None:
    assert invoke("show", name)[:2] == invoke("show", "hugging-llama/demo")[:2]


def test_show_fails_for_a_model_that_is_not_here(invoke: Invoke) -> None:
    assert invoke("show", "org/else") == (
        1, "", "Error: model 'org/else' not found; 'hugging-llama pull org/else' downloads it\n"
    )  # fmt: skip
    assert "did you mean 'hugging-llama/demo'?" in invoke("show", "hugging-llama/dmo")[2]
    assert invoke("show", "/srv/models/x")[2] == "Error: model '/srv/models/x' not found\n"


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--license", "Apache License\n\nVersion 2.0\nand so on\n"),
        ("--modelfile", "FROM hugging-llama/demo:latest\n"),
        ("--template", "{{ messages }}\n"),
        ("--system", "\n"),
    ],
)
def test_show_prints_one_text(flag: str, text: str, invoke: Invoke) -> None:
    assert invoke("show", "demo", flag) == (0, text, "")


def test_show_takes_one_flag_at_most(invoke: Invoke) -> None:
    code, _, err = invoke("show", "demo", "--license", "--template")
    assert code == 2
    assert "not allowed with" in err
    assert invoke("show", "demo", "--memory", "--num-ctx", "0")[0] == 2


def test_show_has_the_sections_of_ollama(invoke: Invoke, server: StubServer) -> None:
    more = {
        "projector_info": {"clip.has_vision_encoder": True},
        "system": "Be brief.\n\nBe kind.\nBe quick.",
        "requires": "0.14.0",
        "tool_format": "hermes",
        "thinking_tags": ["<|channel>thought\n", "<channel|>"],
        "model_info": {"general.architecture": "llama", "tokenizer.ggml.tokens": list("abcdef"), "a": "x\ny"},
    }
    server.models[0] = CHAT_MODEL | {"shown": more}
    out = invoke("show", "demo", "-v")[1]
    titles = [line.strip() for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert titles == [
        "Model", "Capabilities", "Projector", "Parameters", "Metadata", "Tensors", "System", "License",
        "Memory (context of 2048 tokens)", "On disk", "Details",
    ]  # fmt: skip
    assert "    requires        0.14.0" in out
    assert "    tool calls      hermes\n    thinking        <|channel>thought … <channel|>\n" in out
    assert "  Projector\n    clip.has_vision_encoder    True\n" in out
    assert "  System\n    Be brief.\n    Be kind.\n    ...\n" in out
    assert "    tokenizer.ggml.tokens    [a, b, c, ...+3 more]\n" in out
    assert "    a                        x y\n" in out
    assert "Metadata" not in invoke("show", "demo")[1]


def test_show_verbose_lists_tensors(invoke: Invoke) -> None:
    assert "  Tensors\n    model.norm.weight    BF16 [256]\n" in invoke("show", "demo", "-v")[1]
    assert "Tensors" not in invoke("show", "demo")[1]


def test_show_memory(invoke: Invoke) -> None:
    code, out, err = invoke("show", "demo", "--memory", "--num-ctx", "4000")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "  Memory (context of 4000 tokens)",
        "    weights     7.4 MB",
        "    KV cache    4 MB",
        "    overhead    415 MB",
        "    total       432 MB",
    ]
    assert json.loads(invoke("show", "demo", "--memory", "--json")[1])["kv_cache"] == 2_048_000
    assert json.loads(invoke("show", "demo", "--json")[1])["model_info"]["general.architecture"] == "llama"


def test_show_memory_of_a_model_of_the_catalog(invoke: Invoke) -> None:
    code, out, err = invoke("show", "qwen/qwen3-8b", "--memory", "--num-ctx", "4096", "--json")
    assert code == 0
    assert "estimated from the catalog" in err
    assert json.loads(out)["weights"] == 16_381_470_720


def test_show_memory_of_a_model_of_the_hub(invoke: Invoke) -> None:
    code, out, err = invoke("show", "hub/only", "--memory", "--json")
    assert code == 0
    assert "from the headers of its files on the Hub" in err
    assert json.loads(out)["weights"] == 7_443_968
    assert invoke("show", "org/else", "--memory")[::2] == (1, "Error: model 'org/else' not found\n")


def test_find_takes_no_revision_for_another() -> None:
    tagged = [CHAT_MODEL | {"name": "org/name:v2"}, CHAT_MODEL | {"name": "other/name:latest"}]
    assert models.find(tagged, "org/name") is None
    assert models.find(tagged, "org/name:v2") is tagged[0]
    assert models.find(tagged, "name") is tagged[1]
    assert models.find([*tagged, CHAT_MODEL | {"name": "third/name:latest"}], "name") is None


def test_the_nearest_name() -> None:
    listed = [CHAT_MODEL | {"name": name} for name in ("hugging-llama/demo:latest", "org/mine:v2", "mime:latest")]
    assert models.nearest(listed, "dem") == "hugging-llama/demo"
    assert models.nearest(listed, "HUGGING-LLAMA/dmo") == "hugging-llama/demo"
    assert models.nearest(listed, "org/mine") == "org/mine:v2"
    assert models.nearest(listed, "mim") == "mime"
    assert models.nearest(listed, "zzz") == models.nearest([], "demo") == ""


def test_ps_piped(cli: RunCli, server: StubServer) -> None:
    assert cli("ps").stdout == ""
    server.loaded = [
        CHAT_MODEL | {"expires_at": "2124-05-08T14:00:00.5+02:00", "ref_count": 1, "size_vram": 0},
        CHAT_MODEL | {"name": "b", "expires_at": _in(minutes=4.5), "size_vram": 0},
    ]
    lines = cli("ps").stdout.splitlines()
    assert lines[0] == "hugging-llama/demo:latest: refs=1 expires=never"
    assert lines[1].startswith("b: refs=0 expires=20")
    assert lines[1].endswith("Z")
    assert len(lines[1]) == len("b: refs=0 expires=2024-05-08T12:00:00Z")


def _in(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


@pytest.mark.parametrize(
    ("delta", "shown"),
    [
        ({"minutes": 4.5}, "4 minutes from now"),
        ({"seconds": 61}, "About a minute from now"),
        ({"seconds": 30.5}, "30 seconds from now"),
        ({"minutes": 59.5}, "59 minutes from now"),
        ({"days": 290 * 365}, "Forever"),
        ({"seconds": -1}, "Stopping..."),
    ],
)
def test_until(delta: dict[str, float], shown: str) -> None:
    now = datetime.now(UTC)
    assert render.until((now + timedelta(**delta)).isoformat(), now) == shown


@pytest.mark.parametrize(
    ("delta", "shown"),
    [
        ({"seconds": 0}, "Less than a second ago"),
        ({"seconds": 1.2}, "1 second ago"),
        ({"hours": 1.1}, "About an hour ago"),
        ({"hours": 30}, "30 hours ago"),
        ({"days": 3}, "3 days ago"),
        ({"days": 20}, "2 weeks ago"),
        ({"days": 90}, "3 months ago"),
        ({"days": 800}, "2 years ago"),
    ],
)
def test_age(delta: dict[str, float], shown: str) -> None:
    now = datetime.now(UTC)
    assert render.age((now - timedelta(**delta)).isoformat(), now) == shown


def test_values_that_make_no_sense_are_dashes() -> None:
    assert (render.age("soon"), render.until(None), render.size("big"), render.short_id(None)) == ("-", "-", "-", "")
    assert render.expiry("") == "unknown"


@pytest.mark.parametrize(
    ("total", "on_gpu", "shown"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 52, "48%/52% CPU/GPU"),
        (100, 101, "Unknown"),
        (0, 0, "Unknown"),
        (None, 0, "Unknown"),
    ],
)
def test_processor(total: int | None, on_gpu: int, shown: str) -> None:
    assert render.processor(total, on_gpu) == shown


def test_names_can_not_control_the_terminal() -> None:
    assert render.table(["NAME"], [["a\x1b[2Jb\x9bc\r"]]) == "NAME\na[2Jbc"


def test_embed(invoke: Invoke, server: StubServer) -> None:
    code, out, _ = invoke("embed", "all-MiniLM-L6-v2", "one text")
    assert code == 0
    assert json.loads(out) == {"model": "all-MiniLM-L6-v2", "embeddings": [[0.25, -0.5]], "total_duration": 5}
    assert len(json.loads(invoke("embed", "m", "--dimensions", "2", "a", "b")[1])["embeddings"]) == 2
    assert len(json.loads(invoke("embed", "m", stdin="piped in\n")[1])["embeddings"]) == 1
    assert server.bodies("/api/embed") == [
        {"model": "all-MiniLM-L6-v2", "input": "one text"},
        {"model": "m", "input": ["a", "b"], "dimensions": 2},
        {"model": "m", "input": "piped in"},
    ]


def test_pull_in_lines(cli: RunCli, server: StubServer) -> None:
    server.pull_events = [
        {"status": "pulling manifest", "digest": ""},
        {"status": "downloading", "path": "/cache/a/config.json"},
        {"status": "downloading", "path": "/c/config.json", "file": "config.json", "total": 665, "completed": 665},
        {"status": "downloading", "file": "model.safetensors", "total": 4_900_000_000, "completed": 10_000_000},
        {"status": "downloading", "file": "model.safetensors", "total": 4_900_000_000, "completed": 20_000_000},
        {"status": "downloading", "file": "model.safetensors", "total": 4_900_000_000, "completed": 4_900_000_000},
        {"status": "downloading", "file": "model.safetensors", "total": 4_900_000_000, "completed": 4_900_000_000},
        {"status": "success"},
    ]
    result = cli("pull", "org/name", "--revision", "v1", "--trust-remote-code")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "pulling manifest",
        "downloading config.json",
        "downloaded config.json (665 B)",
        "downloading model.safetensors 10 MB/4.9 GB",
        "downloaded model.safetensors (4.9 GB)",
        "success",
    ]
    body = {"model": "org/name", "revision": "v1", "trust_remote_code": True, "stream": True}
    assert server.bodies("/api/pull") == [body]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"error": "no space left"}, "no space left"),
        ({"status": "verifying"}, "the server ended the pull before it was complete; run it again to go on"),
    ],
)
def test_a_pull_that_fails(last: dict[str, str], message: str, invoke: Invoke, server: StubServer) -> None:
    server.pull_events = [{"status": "pulling manifest"}, last]
    code, out, err = invoke("pull", "org/name")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"Error: {message}"
