"""A model made of uploaded files by Ollama's official client, against a real server."""

import asyncio
from pathlib import Path

import ollama
import pytest

import hugging_llama
from tests.gguf_files import write_gguf
from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
QUESTION = "What is the capital of France?"
FOLDER = Path(str(hugging_llama.__file__)).parent / "demo_model"


async def _upload_in_chunks(server: LiveServer, path: Path) -> str:
    """The asynchronous client knows no length before it sends."""
    async with ollama.AsyncClient(host=server.url) as client:
        return str(await client.create_blob(path))


def test_a_model_of_uploaded_files_says_what_its_source_says(server: LiveServer) -> None:
    with ollama.Client(host=server.url) as client:
        files = {path.name: client.create_blob(path) for path in FOLDER.iterdir() if path.name != "README.md"}
        assert asyncio.run(_upload_in_chunks(server, FOLDER / "model.safetensors")) == files["model.safetensors"]
        parts = [part.status for part in client.create("uploaded", files=files, stream=True)]
        assert parts[-2:] == ["writing manifest", "success"]
        with pytest.raises(ollama.ResponseError, match="it has no config"):
            client.create("half", files={"model.safetensors": files["model.safetensors"]})
        try:
            for question in (QUESTION, "Once upon a time"):
                source, made = (
                    client.generate(name, question, think=False, options={"temperature": 0, "num_predict": 40})
                    for name in (DEMO, "uploaded")
                )
                assert made.response
                assert (made.response, made.context) == (source.response, source.context), "token by token"
            told = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
            client.create("told", from_="uploaded", messages=told, system="Be brief.", license="Do as you like.")
            chat = client.chat("told", [{"role": "user", "content": QUESTION}], think=False)
            asked = [{"role": "system", "content": "Be brief."}, *told, {"role": "user", "content": QUESTION}]
            assert chat.prompt_eval_count == client.chat(DEMO, asked, think=False).prompt_eval_count
        finally:
            for model in ("uploaded", "told"):
                client.delete(model)


def test_a_gguf_file_says_what_its_source_says(server: LiveServer, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "demo.gguf", "BF16")
    with ollama.Client(host=server.url) as client:
        parts = client.create("converted", files={file.name: client.create_blob(file)}, stream=True)
        statuses = list(dict.fromkeys(part.status for part in parts))
        assert statuses[:3] == ["parsing GGUF", "converting model", "verifying conversion"]
        assert statuses[-1] == "success"
        try:
            source, made = (
                client.generate(name, QUESTION, think=False, options={"temperature": 0, "num_predict": 40})
                for name in (DEMO, "converted")
            )
            assert (made.response, made.context) == (source.response, source.context), "token by token"
        finally:
            client.delete("converted")
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ollama.ResponseError, match="cut short"):
            client.create("broken", files={broken.name: client.create_blob(broken)})


def test_the_home_says_its_format(server: LiveServer) -> None:
    home = Path(server.environ["HOME"]) / ".cache" / "hugging-llama"
    assert (home / "format").read_text() == "2\n"
