"""Nothing that a client may send is dropped in silence, and docs/fields.md says what becomes of it."""

from pathlib import Path
from typing import Any, get_type_hints

import ollama._types
import pytest
from anthropic.types import MessageCountTokensParams
from anthropic.types.beta import message_create_params
from openai.types import EmbeddingCreateParams, completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from tools.fields import DOCUMENT, document

from tests.functional.field_probes import ENDPOINTS, SILENT, fates, option_fates, world

CLIENTS: dict[str, Any] = {
    "/api/generate": ollama._types.GenerateRequest,
    "/api/chat": ollama._types.ChatRequest,
    "/api/embed": ollama._types.EmbedRequest,
    "/api/embeddings": ollama._types.EmbeddingsRequest,
    "/api/create": ollama._types.CreateRequest,
    "/api/pull": ollama._types.PullRequest,
    "/api/push": ollama._types.PushRequest,
    "/api/show": ollama._types.ShowRequest,
    "/api/copy": ollama._types.CopyRequest,
    "/api/delete": ollama._types.DeleteRequest,
    "/v1/chat/completions": chat_create_params.CompletionCreateParamsStreaming,
    "/v1/completions": completion_create_params.CompletionCreateParamsStreaming,
    "/v1/responses": ResponseCreateParamsStreaming,
    "/v1/embeddings": EmbeddingCreateParams,
    "/v1/messages": message_create_params.MessageCreateParamsStreaming,
    "/v1/messages/count_tokens": MessageCountTokensParams,
}
"""What the official clients may send, by their own types."""


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_what_the_official_clients_may_send_is_known(endpoint: Any) -> None:
    client = CLIENTS.get(endpoint.path)
    if client is None:
        # which are ours, or of several others
        assert endpoint.path in ("/api/tokenize", "/api/detokenize", "/api/rerank", "/v1/rerank", "/v1/classify")
        return
    if hasattr(client, "model_fields"):
        sent = {name.rstrip("_") for name in client.model_fields}
    else:
        sent = set(get_type_hints(client))
    assert sent - endpoint.fields.keys() == set()


def test_every_field_has_a_fate_and_the_document_says_which(tmp_path: Path) -> None:
    with world(tmp_path) as found:
        of_fields = {endpoint.path: fates(found, endpoint) for endpoint in ENDPOINTS}
        silent = [(path, f.name, f.why) for path, all in of_fields.items() for f in all if f.verdict == SILENT]
        silent += [("options", f.name, f.why) for f in option_fates(found) if f.verdict == SILENT]
        assert silent == []
        assert document(found) == DOCUMENT.read_text(), "run python tools/fields.py"
