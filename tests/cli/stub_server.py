"""A small server that speaks the documented shapes, so that the client is tested over real HTTP."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

DIGEST = "ab12cd34ef56" + "0" * 52
CHAT_MODEL: dict[str, Any] = {
    "name": "hugging-llama/demo:latest",
    "model": "hugging-llama/demo:latest",
    "modified_at": "2024-05-08T12:00:00.123456789+02:00",
    "size": 7_572_444,
    "digest": DIGEST,
    "details": {
        "parent_model": "",
        "format": "safetensors",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.72M",
        "quantization_level": "BF16",
        "context_length": 2048,
        "embedding_length": 256,
    },
    "capabilities": ["completion", "tools"],
}
EMBEDDING_MODEL: dict[str, Any] = CHAT_MODEL | {
    "name": "sentence-transformers/all-MiniLM-L6-v2:latest",
    "model": "sentence-transformers/all-MiniLM-L6-v2:latest",
    "size": 90_868_376,
    "capabilities": ["embedding"],
}
MEMORY: dict[str, Any] = {"weights": 7_443_968, "overhead": 415_000_000, "total": 432_000_000}
SHOWN: dict[str, Any] = {
    "license": "Apache License\n\nVersion 2.0\nand so on\n",
    "modelfile": "FROM hugging-llama/demo:latest\n",
    "parameters": 'temperature                    0.3\nstop                           "<|im_end|>"',
    "template": "{{ messages }}",
    "model_info": {
        "general.architecture": "llama",
        "llama.context_length": 2048,
        "llama.embedding_length": 256,
    },
}
FINAL: dict[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_500_000_000,
    "load_duration": 50_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_000_000,
    "eval_count": 10,
    "eval_duration": 500_000_000,
}


class StubServer:
    """Answers from the lists it holds; `requests` are the (path, body) pairs it got.

    A prompt or last message picks the reply: "wait" never ends, "fail" fails half-way, "cut" stops without an end,
    "think" reasons first, "tool" calls one, "slowly PHASE" tells what comes before and waits for
    `go_on`, "long" is a line longer than a terminal; else the text comes back, and below it what `replies` has for it.
    `certificate` and its key are files: with them it speaks https.
    """

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.models = [CHAT_MODEL, EMBEDDING_MODEL]
        self.loaded: list[dict[str, Any]] = []
        self.pull_events: list[dict[str, Any]] = [{"status": "success"}]
        self.create_events: list[dict[str, Any]] = [{"status": "writing manifest"}, {"status": "success"}]
        self.blobs: dict[str, bytes] = {}
        self.freed_bytes = 0
        self.push_events: list[dict[str, Any]] = [{"status": "success"}]
        self.replies: dict[str, str] = {}
        self.hub_tokens: list[str | None] = []
        self.requests: list[tuple[str, Any]] = []
        self.left = threading.Event()
        self.go_on = threading.Event()
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=QuietHandler, ssl_context=certificate
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"{'https' if self._server.ssl_context else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StubServer":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def bodies(self, path: str) -> list[Any]:
        """What was sent to `path`, oldest first."""
        return [body for sent_to, body in self.requests if sent_to == path]

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.path.startswith("/api/blobs/"):
            return self._blob(request)
        if request.method == "HEAD":
            self.requests.append((f"HEAD {request.path}", None))
            return Response("Ollama is running")
        body: Any = request.get_json(silent=True)
        self.requests.append((request.path, body))
        if request.method == "GET":
            return self._get(request.path)
        if request.path == "/api/copy":
            return self._known(body["source"], 'model "{}" not found')
        if request.method == "DELETE":
            return self._known(body["model"], "model '{}' not found", {"X-Freed-Bytes": str(self.freed_bytes)})
        if body["model"].endswith("gated"):
            return _json({"error": "access to 'gated' is restricted"}, 403)
        if request.path == "/api/push":
            self.hub_tokens.append(request.headers.get("X-HF-Token"))
            return _stream(self.push_events)
        return self._post(request.path, body)

    def _post(self, path: str, body: dict[str, Any]) -> Response:
        answers: dict[str, Callable[[], Response]] = {
            "/api/pull": lambda: _stream(self._pull(body)),
            "/api/create": lambda: _stream(self.create_events),
            "/api/show": lambda: self._show(body),
            "/api/embed": lambda: self._embed(body),
            "/api/tokenize": lambda: self._tokenize(body),
            "/api/chat": lambda: _stream(self._reply(body["messages"][-1]["content"], is_chat=True)),
            "/api/generate": lambda: self._generate(body),
        }
        return answers[path]()

    def _embed(self, body: dict[str, Any]) -> Response:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return _json({"model": body["model"], "embeddings": [[0.25, -0.5]] * len(texts), "total_duration": 5})

    def _tokenize(self, body: dict[str, Any]) -> Response:
        """A token a byte."""
        found = self._known(body["model"], "model '{}' not found")
        ids = list(body["content"].encode())
        return found if found.status_code != 200 else _json({"tokens": ids, "count": len(ids)})

    def _generate(self, body: dict[str, Any]) -> Response:
        if body.get("keep_alive") == 0:
            found = self._known(body["model"], "model '{}' not found")
            return found if found.status_code != 200 else _json({"done": True, "done_reason": "unload"})
        if not body["stream"] and body["prompt"]:
            return _json({"model": body["model"], "response": f"You said: {body['prompt']}"} | FINAL)
        if not body["stream"]:
            return _json({"model": body["model"], "response": "", "done": True, "done_reason": "load"})
        return _stream(self._reply(body["prompt"], is_chat=False))

    def _get(self, path: str) -> Response:
        answers: dict[str, dict[str, Any]] = {
            "/api/tags": {"models": self.models},
            "/api/ps": {"models": self.loaded},
            "/api/version": {"version": "0.99.1"},
            "/health": {"status": "ok", "device": "cpu"},
        }
        return _json(answers[path]) if path in answers else Response("404 page not found", 404)

    def _known(self, name: str, refusal: str, headers: dict[str, str] | None = None) -> Response:
        """An empty answer if there is a model of that name."""
        is_known = any(model["name"] in (name, f"{name}:latest") for model in self.models)
        return Response(headers=headers) if is_known else _json({"error": refusal.format(name)}, 404)

    def _blob(self, request: Request) -> Response:
        digest = request.path.rpartition("/")[2]
        if request.method == "HEAD":
            self.requests.append((f"HEAD {request.path}", None))
            return Response(status=200 if digest in self.blobs else 404)
        self.requests.append((request.path, dict(request.headers)))
        try:
            content = request.get_data()
        except ClientDisconnected:
            return _json({"error": "the body ended too early"}, 400)
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            return _json({"error": f'digest mismatch, expected "{digest}"'}, 400)
        self.blobs[digest] = content
        return Response(status=201)

    def _show(self, body: dict[str, Any]) -> Response:
        if body.get("remote") and body["model"] == "hub/only":
            return _json({"model_info": {}, "memory": MEMORY | {"kv_cache": 5, "num_ctx": 4096}})
        model = next((model for model in self.models if model["name"] == body["model"]), None)
        if model is None:
            return _json({"error": f"model '{body['model']}' not found"}, 404)
        answer = SHOWN | {key: model[key] for key in ("details", "capabilities", "modified_at")}
        answer |= model.get("shown", {})
        num_ctx = body.get("options", {}).get("num_ctx", 2048)
        answer["memory"] = MEMORY | {"kv_cache": 1000 * num_ctx, "num_ctx": num_ctx}
        if body.get("system"):
            answer["system"] = body["system"]
            answer["modelfile"] += f"SYSTEM {body['system']}\n"
        if body.get("verbose"):
            answer["tensors"] = [{"name": "model.norm.weight", "type": "BF16", "shape": [256]}]
        return _json(answer)

    def _pull(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for event in self.pull_events:
            until = event.pop("until", None)
            yield event
            while until is not None and not until.wait(0.05):  # goes on, but not to its end
                event["completed"] += 10**6
                yield event
        self.models = [*self.models, CHAT_MODEL | {"name": f"{body['model']}:latest"}]

    def _reply(self, text: str, *, is_chat: bool) -> Iterator[dict[str, Any]]:
        def item(content: str = "", thinking: str = "", **more: Any) -> dict[str, Any]:
            thought = {"thinking": thinking} if thinking else {}
            if is_chat:
                return {"message": {"role": "assistant", "content": content} | thought, "done": False} | more
            return {"response": content, "done": False} | thought | more

        if text == "think":
            yield item(thinking="Let me ")
            yield item(thinking="see.")
        if text == "tool":
            call = {"function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}}
            yield {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
        if text.startswith("slowly "):
            yield item(progress={"phase": text.split()[1], "position": 3, "completed": 512, "total": 4000})
            self.go_on.wait(60)
            self.go_on.clear()
        if text == "wait":
            yield from self._forever(item)
        if text == "long":
            yield from (item(f"word{i} ") for i in range(40))
        yield from (item(piece) for piece in ("You said: ", text))
        yield from (item(word) for word in re.split("(?<= )", self.replies.get(text, "")) if word)
        if text == "fail":
            yield {"error": "the model fell over"}
            return
        if text != "cut":
            yield item(**FINAL)

    def _forever(self, item: Any) -> Iterator[dict[str, Any]]:
        try:
            yield item("waiting ")
            while True:
                time.sleep(0.02)
                yield item(".")
        finally:
            self.left.set()


class QuietHandler(WSGIRequestHandler):
    """HTTP/1.1, so that answers without a length go out in chunks, as gunicorn sends them; and silent."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")


def _stream(items: Iterable[dict[str, Any]]) -> Response:
    return Response((json.dumps(item) + "\n" for item in items), content_type="application/x-ndjson")
