"""Ollama's official Python client against a real server."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import ollama
import pytest

from tests.hub_cache import MINILM
from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(server: LiveServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield client


def test_generate(client: ollama.Client) -> None:
    answer = client.generate(DEMO, "Hello!", options={"temperature": 0})
    assert answer.response
    assert answer.done_reason == "stop"
    assert answer.eval_count
    assert answer.context


def test_generate_streams(client: ollama.Client) -> None:
    chunks = list(client.generate(DEMO, "Once upon a time", stream=True, options={"temperature": 0, "num_predict": 20}))
    assert len(chunks) > 5
    assert chunks[-1].done
    assert "".join(chunk.response or "" for chunk in chunks)


def test_chat_streaming_and_not(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat(DEMO, messages, think=False, options={"temperature": 0})
    assert "Paris" in (whole.message.content or "")
    parts = client.chat(DEMO, messages, think=False, stream=True, options={"temperature": 0})
    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def test_thinking_comes_apart_from_the_answer(client: ollama.Client) -> None:
    answer = client.chat(
        DEMO, [{"role": "user", "content": "What is the capital of France?"}], options={"temperature": 0}
    )
    assert answer.message.thinking
    assert "<think>" not in (answer.message.content or "")


def test_a_tool_is_called_and_its_result_used(client: ollama.Client) -> None:
    messages: list[ollama.Message] = [ollama.Message(role="user", content="What is the weather in Paris?")]
    answer = client.chat(DEMO, messages, tools=[WEATHER], think=False, options={"temperature": 0})
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0].function
    assert call.name == "get_weather"
    assert call.arguments == {"city": "Paris"}
    messages += [answer.message, ollama.Message(role="tool", tool_name="get_weather", content="21 degrees")]
    final = client.chat(DEMO, messages, tools=[WEATHER], think=False, options={"temperature": 0})
    assert "21" in (final.message.content or "")


def test_json_mode(client: ollama.Client) -> None:
    answer = client.generate(DEMO, "Give me a JSON object with name Ana", format="json", think=False)
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.response or ""), dict)


def test_a_schema_is_kept_streaming_and_not(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["Paris", "Rome"]}, "sure": {"type": "boolean"}},
        "required": ["word", "sure"],
    }
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat(DEMO, messages, format=schema, options={"temperature": 0}).message.content or ""
    parts = client.chat(DEMO, messages, format=schema, options={"temperature": 0}, stream=True)
    assert "".join(part.message.content or "" for part in parts) == whole
    found = json.loads(whole)
    assert found["word"] in ("Paris", "Rome")
    assert isinstance(found["sure"], bool)


def test_who_leaves_a_stream_frees_its_sequence(server: LiveServer, client: ollama.Client, endless: str) -> None:
    with server.one_cancelled():
        stream = client.generate(endless, "Hello!", stream=True)
        assert next(stream).done is False
        stream.close()  # type: ignore[attr-defined]


def test_logprobs(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    options = {"temperature": 0, "num_predict": 6}
    whole = client.chat(DEMO, messages, think=False, logprobs=True, top_logprobs=2, options=options)
    assert whole.logprobs
    # the end of the answer is a token without an entry
    assert whole.eval_count == len(whole.logprobs) + (whole.done_reason == "stop")
    assert whole.message.content == "".join(entry.token for entry in whole.logprobs)
    for entry in whole.logprobs:
        assert entry.logprob <= 0
        assert entry.top_logprobs is not None
        assert entry.top_logprobs[0].token == entry.token, "greedy takes the best"
        assert len(entry.top_logprobs) == 2
    parts = client.chat(DEMO, messages, think=False, stream=True, logprobs=True, top_logprobs=2, options=options)
    assert [entry for part in parts for entry in part.logprobs or ()] == list(whole.logprobs)
    assert client.chat(DEMO, messages, think=False, options=options).logprobs is None


def test_options_change_the_answer(client: ollama.Client) -> None:
    def say(**options: object) -> str:
        return client.generate(DEMO, "What is the capital of France?", think=False, options=options).response or ""

    greedy = say(temperature=0)
    assert "Paris" in greedy
    assert "Paris" not in say(temperature=0, bad_words=["Paris"])
    first = client.generate(
        DEMO, "What is the capital of France?", think=False, logprobs=True, options={"temperature": 0}
    )
    assert first.logprobs
    assert not say(temperature=0, logit_bias={first.logprobs[0].token: -100}).startswith(first.logprobs[0].token)
    with pytest.raises(ollama.ResponseError, match="tokens of this model"):
        say(logit_bias={greedy: 1})
    assert say(seed=7) == say(seed=7)
    assert "Paris" in say(num_beams=3)
    with pytest.raises(ollama.ResponseError, match="num_beams"):
        client.generate(DEMO, "Hi", format="json", think=False, options={"num_beams": 2})


def test_a_prompt_that_is_cut_is_counted(server: LiveServer) -> None:
    body = {"model": DEMO, "prompt": "word " * 400, "options": {"num_ctx": 64, "num_predict": 4}}
    for stream in (True, False):
        response = httpx.post(f"{server.url}/api/generate", json=body | {"stream": stream}, timeout=60)
        last = response.json() if not stream else json.loads(response.text.splitlines()[-1])
        dropped = int(response.headers["X-Truncated-Tokens"])
        assert dropped > 300
        assert last["truncated_tokens"] >= dropped
        assert last["prompt_eval_count"] < 64
    refused = httpx.post(f"{server.url}/api/generate", json=body | {"truncate": False}, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("the prompt is longer than the context length")


def test_embed(client: ollama.Client) -> None:
    answer = client.embed(MINILM, ["one", "two"])
    assert [len(vector) for vector in answer.embeddings] == [384, 384]
    assert client.embed(MINILM, "").embeddings == []


def test_list_and_ps(client: ollama.Client) -> None:
    assert {model.model for model in client.list().models} >= {f"{DEMO}:latest"}
    client.generate(DEMO, keep_alive="5m")
    assert f"{DEMO}:latest" in {model.model for model in client.ps().models}
    client.generate(DEMO, keep_alive=0)
    assert f"{DEMO}:latest" not in {model.model for model in client.ps().models}


def test_show(client: ollama.Client) -> None:
    shown = client.show("demo")
    assert shown.details
    assert shown.details.family == "llama"
    assert shown.modelinfo
    assert shown.modelinfo["llama.context_length"] == 2048
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert "temperature" in (shown.parameters or "")
    assert "FROM hugging-llama/demo:latest" in (shown.modelfile or "")
    with pytest.raises(ollama.ResponseError, match="model 'no/such:latest' not found") as caught:
        client.show("no/such")
    assert caught.value.status_code == 404


def test_pull_raises_what_went_wrong(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError):
        client.pull("acme/nothing")
    with pytest.raises(ollama.ResponseError):
        list(client.pull("acme/nothing", stream=True))


def test_errors_carry_status_and_text(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.generate("no/such-model", "x")
    assert caught.value.status_code == 404
    assert caught.value.error == "model 'no/such-model' not found"
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        client.chat(MINILM, [{"role": "user", "content": "x"}])


def test_a_value_of_a_wrong_type_is_refused(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='option "temperature" must be of type float32') as caught:
        client.generate(DEMO, "x", options={"temperature": "hot"})
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match='option "temperature" must be of type float32'):
        list(client.generate(DEMO, "x", options={"temperature": "hot"}, stream=True))


def test_the_asynchronous_client(server: LiveServer, endless: str) -> None:
    async def talk() -> None:
        async with ollama.AsyncClient(host=server.url) as client:
            parts = await client.chat(DEMO, [{"role": "user", "content": "Hello!"}], stream=True, think=False)
            assert "".join([part.message.content or "" async for part in parts])
            asked = [{"role": "user", "content": "What is the weather in Paris?"}]
            answer = await client.chat(DEMO, asked, tools=[WEATHER], think=False, options={"temperature": 0})
            assert answer.message.tool_calls
            assert answer.message.tool_calls[0].function.arguments == {"city": "Paris"}
            assert len((await client.embed(MINILM, "one")).embeddings[0]) == 384
            assert (await client.show(DEMO)).capabilities == ["completion", "tools", "thinking"]
            with pytest.raises(ollama.ResponseError, match="model 'no/such-model' not found"):
                await client.generate("no/such-model", "x")
            long = await client.generate(endless, "Hello!", stream=True)
            assert (await anext(long)).done is False
            await long.aclose()

    with server.one_cancelled():
        asyncio.run(talk())
