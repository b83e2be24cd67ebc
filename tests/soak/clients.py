"""What the clients of a soak ask: every dialect, whole and as streams, good and bad, patient and not."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.soak.exchange import Ask
from tests.soak.world import CHAT, DEMO, EMBEDDING, PULLED, RERANKER

WORDS = ["the", "sky", "is", "blue", "and", "a", "river", "runs", "to", "some", "sea", "of", "small", "old", "stones"]
NDJSON_END = (b'"done":true',)
PULL_END = (b'"success"',)


def text(rng: random.Random, longest: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))


def chat_model(rng: random.Random) -> str:
    return rng.choice(CHAT)


def options(rng: random.Random) -> dict[str, Any]:
    return {"num_predict": rng.randint(1, 40), "temperature": rng.choice([0.0, 1.0]), "seed": rng.randrange(100)}


def native(rng: random.Random) -> Ask:
    body = {"model": chat_model(rng), "messages": [{"role": "user", "content": text(rng)}], "options": options(rng)}
    if rng.random() < 0.3:
        return Ask("native whole", "/api/chat", body | {"stream": False})
    return Ask("native stream", "/api/chat", body, last=NDJSON_END)


def generate(rng: random.Random) -> Ask:
    body = {"model": chat_model(rng), "prompt": text(rng), "options": options(rng)}
    return Ask("native stream", "/api/generate", body, last=NDJSON_END)


def openai(rng: random.Random) -> Ask:
    messages = [{"role": "user", "content": text(rng)}]
    body = {"model": chat_model(rng), "messages": messages, "max_tokens": rng.randint(1, 40), "stream": True}
    return Ask("openai stream", "/v1/chat/completions", body, last=(b"[DONE]",))


def anthropic(rng: random.Random) -> Ask:
    messages = [{"role": "user", "content": text(rng)}]
    body = {"model": chat_model(rng), "messages": messages, "max_tokens": rng.randint(1, 40), "stream": True}
    return Ask("anthropic stream", "/v1/messages", body, last=(b"message_stop",))


def responses(rng: random.Random) -> Ask:
    limit = rng.randint(16, 40)
    body = {"model": chat_model(rng), "input": text(rng), "max_output_tokens": limit, "stream": True}
    return Ask("responses stream", "/v1/responses", body, last=(b"response.completed", b"response.incomplete"))


def leaver(rng: random.Random) -> Ask:
    body = {"model": chat_model(rng), "prompt": text(rng), "options": {"num_predict": 500, "temperature": 1.5}}
    return Ask("leaves in mid-stream", "/api/generate", body, last=NDJSON_END, leaves_after=rng.randint(0, 5))


def bad(rng: random.Random) -> Ask:
    refused = (400, 404, 405, 411, 413, 415, 422)
    return rng.choice(
        [
            Ask("bad input", "/api/chat", b"{", wants=refused),
            Ask("bad input", "/api/chat", b"[" * 5000, wants=refused),
            Ask("bad input", "/api/generate", {"model": 3}, wants=refused),
            Ask("bad input", "/api/generate", {"model": "acme/none", "prompt": "x"}, wants=refused),
            Ask("bad input", "/v1/chat/completions", {"model": DEMO, "messages": "x"}, wants=refused),
            Ask("bad input", "/v1/messages", {"model": DEMO, "messages": []}, wants=refused),
            Ask("bad input", "/v1/responses", {"model": DEMO, "input": {}}, wants=refused),
            Ask("bad input", "/api/embed", {"model": EMBEDDING, "input": 5}, wants=refused),
            Ask("bad input", "/api/nothing", {}, wants=refused),
            Ask("bad input", "/api/chat", None, method="PUT", wants=refused),
            Ask("bad input", "/api/blobs/sha256:00", b"x", wants=refused),
        ]
    )


def embed(rng: random.Random) -> Ask:
    return Ask("embeddings", "/api/embed", {"model": EMBEDDING, "input": [text(rng, 20) for _ in range(3)]})


def rerank(rng: random.Random) -> Ask:
    documents = [text(rng, 8) for _ in range(3)]
    return Ask("rerank", "/v1/rerank", {"model": RERANKER, "query": text(rng, 3), "documents": documents})


def pull(rng: random.Random) -> Ask:
    leaves_after = 3 if rng.random() < 0.2 else None
    return Ask("pulls", "/api/pull", {"model": rng.choice(PULLED)}, last=PULL_END, leaves_after=leaves_after)


def delete(rng: random.Random) -> Ask:
    return Ask("deletes", "/api/delete", {"model": rng.choice(PULLED)}, method="DELETE", wants=(200, 404))


def load_or_unload(rng: random.Random) -> Ask:
    keep_alive = rng.choice([0, "5m"])
    return Ask("loads and unloads", "/api/generate", {"model": chat_model(rng), "keep_alive": keep_alive}, last=())


def look(rng: random.Random) -> Ask:
    path = rng.choice(["/api/ps", "/api/tags", "/v1/models", "/metrics", "/ready"])
    return Ask("looks", path, None, method="GET")


KINDS: tuple[tuple[Callable[[random.Random], Ask], int], ...] = (
    (native, 6),
    (generate, 4),
    (openai, 4),
    (anthropic, 3),
    (responses, 3),
    (leaver, 5),
    (bad, 3),
    (embed, 3),
    (rerank, 2),
    (pull, 2),
    (delete, 1),
    (load_or_unload, 2),
    (look, 2),
)


def asks(seed: int) -> Iterator[Ask]:
    """What one client asks, without end."""
    rng = random.Random(seed)
    makers, weights = zip(*KINDS, strict=True)
    while True:
        (make,) = rng.choices(makers, weights)
        yield make(rng)
