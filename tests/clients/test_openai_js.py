"""OpenAI's official JavaScript client against a real server."""

from tests.clients.javascript import DEMO, needs, talk
from tests.live_server import LiveServer

OSLO = [["get_weather", {"city": "Oslo"}]]


@needs("openai")
def test_the_javascript_client(server: LiveServer, endless: str) -> None:
    found = talk("openai.js", server, endless)
    assert "Paris" in found["chat"]
    assert found["chatStream"] == found["chat"]
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert found["streamUsage"][key] == found["usage"][key]
    assert found["reasoning"]
    assert found["auto"] == found["required"] == found["named"] == ["tool_calls", OSLO]
    assert found["streamedCalls"] == OSLO
    assert found["chatPhases"][0] == "prompt"
    assert found["chatHelper"]
    assert found["responsePhases"][2] == "prompt", "after two events that tell that it has begun"
    assert found["responseEnd"] == "incomplete"
    assert "5" in found["toolLoop"]
    assert found["structured"]["word"] in ("Paris", "Rome")
    assert isinstance(found["structured"]["sure"], bool)
    assert found["completion"]
    assert found["completionStream"] == found["completion"]
    assert found["embed"] == [384, 384]
    assert f"{DEMO}:latest" in found["models"]
    assert found["retrieved"] == DEMO
    assert (found["missing"]["name"], found["missing"]["status"]) == ("NotFoundError", 404)
    assert "model 'no/such-model' not found" in found["missing"]["message"]
    assert (found["bad"]["name"], found["bad"]["status"]) == ("BadRequestError", 400)
    assert "Invalid type for 'temperature'" in found["bad"]["message"]
    assert found["left"] == [True, None], "it ends without a word"
