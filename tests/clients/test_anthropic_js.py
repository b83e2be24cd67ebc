"""Anthropic's official JavaScript client against a real server."""

import requests

from tests.clients.javascript import DEMO, needs, talk
from tests.live_server import LiveServer

OSLO = [["get_weather", {"city": "Oslo"}]]


@needs("@anthropic-ai/sdk")
def test_the_javascript_client(server: LiveServer, endless: str) -> None:
    found = talk("anthropic.js", server, endless)
    assert len(found["text"]) == 1
    assert "Paris" in found["text"][0]
    assert found["streamed"] == found["text"]
    assert found["streamUsage"]["output_tokens"] == found["usage"]["output_tokens"]
    assert found["withProgress"] == "max_tokens"
    assert found["thinking"] == ["thinking", "text"]
    assert found["thinkingStream"] == [["thinking", True], ["text", False]], "thoughts are signed"
    assert found["auto"] == found["any"] == found["named"] == ["tool_use", OSLO]
    assert found["streamedCall"] == ["tool_use", {"city": "Oslo"}]
    assert found["toolLoop"]["type"] == "text"
    assert "5" in found["toolLoop"]["text"]
    for roles, text in found["toolRunner"]:
        assert roles[:3] == ["user", "assistant", "user"]
        assert "5" in text
    assert found["structured"]["word"] in ("Paris", "Rome")
    assert isinstance(found["structured"]["sure"], bool)
    assert found["counted"] == found["read"]["input_tokens"] + found["read"]["cache_read_input_tokens"]
    assert ["model", f"{DEMO}:latest"] in found["models"]
    assert (found["missing"]["name"], found["missing"]["status"]) == ("NotFoundError", 404)
    assert "model 'no/such-model' not found" in found["missing"]["message"]
    assert (found["bad"]["name"], found["bad"]["status"]) == ("BadRequestError", 400)
    assert "temperature" in found["bad"]["message"]
    assert found["left"] == [True, None], "it ends without a word"
    assert {"anthropic-beta", "x-stainless-helper", "anthropic-workspace-id"} <= set(found["headers"])
    assert set(found["headers"]) <= _let_in(server, found["headers"])


def _let_in(server: LiveServer, names: list[str]) -> set[str]:
    """What a browser would be told for a page that sends headers of these names."""
    asked = {"Origin": "http://localhost:5173", "Access-Control-Request-Headers": ",".join(sorted(names))}
    answer = requests.options(f"{server.url}/v1/messages", headers=asked, timeout=60)
    return set(answer.headers["Access-Control-Allow-Headers"].split(","))
