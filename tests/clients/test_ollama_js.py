"""Ollama's official JavaScript client against a real server."""

from tests.clients.javascript import DEMO, needs, talk
from tests.live_server import LiveServer

OSLO = [["get_weather", {"city": "Oslo"}]]


@needs("ollama")
def test_the_javascript_client(server: LiveServer, endless: str) -> None:
    found = talk("ollama.js", server, endless)
    assert found["generate"]
    assert found["generateStream"] == found["generate"]
    assert "Paris" in found["chat"]
    assert found["chatStream"] == found["chat"]
    thoughts, text = found["thinking"]
    assert thoughts
    assert "Paris" in text
    assert found["called"] == found["streamedCalls"] == OSLO
    assert found["required"] == ["get_weather"]
    assert "5" in found["toolLoop"]
    assert found["structured"]["word"] in ("Paris", "Rome")
    assert isinstance(found["structured"]["sure"], bool)
    assert found["counted"] > 5
    assert found["embed"] == [384, 384]
    assert f"{DEMO}:latest" in found["list"]
    assert found["ps"]
    assert found["capabilities"] == ["completion", "tools", "thinking"]
    assert found["version"]
    assert found["missing"] == {
        "name": "ResponseError", "message": "model 'no/such-model' not found", "status": 404,
    }  # fmt: skip
    assert found["bad"] == {
        "name": "ResponseError", "message": 'option "temperature" must be of type float32', "status": 400,
    }  # fmt: skip
    assert found["pull"]
    assert found["pullStream"]
    assert found["left"] == [True, "AbortError"]
