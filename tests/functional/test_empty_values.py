"""An object that asks for something by being there is refused when it is empty, too; what asks for nothing is taken."""

from typing import Any

import pytest

from tests.functional.conftest import MakeClient

HI = [{"role": "user", "content": "Hi"}]
BASE: dict[str, Any] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi", "store": False},
    "/v1/messages": {"messages": HI, "max_tokens": 9},
    "/api/create": {"model": "mine", "from": "demo", "stream": False},
}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *(
            ("/v1/chat/completions", name, {})
            for name in ("web_search_options", "moderation", "audio", "function_call")
        ),
        *(("/v1/responses", name, {}) for name in ("conversation", "prompt", "moderation")),
        *(("/v1/messages", name, {}) for name in ("container", "compaction", "thread", "output_format")),
        ("/v1/messages", "output_config", {"format": {}}),
        ("/v1/responses", "max_tokens", 1),
        ("/v1/completions", "best_of", 2),
    ],
)
def test_what_asks_by_being_there_is_refused(make_client: MakeClient, path: str, name: str, value: Any) -> None:
    client, _ = make_client()
    response = client.post(path, json={"model": "demo", **BASE[path], name: value})
    assert response.status_code == 400, response.text
    assert name in response.get_json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"functions": [], "function_call": "none", "modalities": ["text"], "audio": None}),
        ("/v1/completions", {"best_of": 1}),
        ("/v1/responses", {"max_tokens": 0}),
        ("/v1/responses", {"background": False, "conversation": "", "n": 1}),
        ("/v1/messages", {"mcp_servers": [], "fallbacks": [], "container": "", "output_format": None}),
        ("/api/create", {"info": {}, "draft_files": {}, "renderer": "", "messages": [{"images": [], "role": "user"}]}),
    ],
)
def test_what_asks_for_nothing_is_taken(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    client, _ = make_client()
    response = client.post(path, json={"model": "demo", **BASE[path], **body})
    assert (response.status_code, response.headers.get("X-Ignored-Fields")) == (200, None), response.text
