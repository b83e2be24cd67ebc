"""The smallest application over RemoteEngine and DisconnectWatch; also starts scripted engines, mounted."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from flask import Flask, Response, request

from hugging_llama.client.remote import RemoteEngine
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import EventStream, Finished, GenerateEvent, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, TextPrompt
from hugging_llama.web.disconnect import DisconnectWatch
from hugging_llama_config import launch
from hugging_llama_config.env import load_settings

launch.ENGINE_COMMAND = (sys.executable, str(Path(__file__).with_name("scripted_engine.py")))
launch.LINGER_S = float(os.environ.get("TEST_LINGER_S", "30"))

settings = load_settings()
engine = RemoteEngine(settings)
watch = DisconnectWatch(stalled_timeout_s=float(os.environ.get("TEST_STALLED_S", "300")))
app = Flask(__name__)
# an application that takes its time to load
while os.path.exists(os.environ.get("TEST_LOADS_WITHOUT", "")):
    time.sleep(0.01)
if os.path.exists(os.environ.get("TEST_FAILS_WITH", "")):
    raise RuntimeError("an application that does not load")


class Context:
    """What the gunicorn hook looks for."""

    engine = engine


app.extensions["hugging_llama"] = Context()


@app.get("/health")
def health() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/status")
def status() -> dict[str, object]:
    found = msgspec.to_builtins(engine.status(60))
    assert isinstance(found, dict)
    return found | {"fds": len(os.listdir("/proc/self/fd")), "worker": os.getpid()}


@app.get("/gen")
def gen() -> Response:
    prompt = TextPrompt(text=request.query_string.decode())
    events = engine.generate(GenerateRequest(model=ModelRef(name="demo", path="demo"), prompt=prompt))
    handle = watch.watch(request.environ, events.close)

    def close() -> None:
        handle.cancel()
        events.close()

    if request.args.get("stream") == "false":
        try:
            body = b"".join(lines(events))
        finally:
            close()
        return Response(body)
    response = Response(lines(events), mimetype="application/x-ndjson")
    response.call_on_close(close)
    return response


def lines(events: EventStream[GenerateEvent]) -> Iterator[bytes]:
    try:
        for event in events:
            if isinstance(event, TextDelta):
                yield msgspec.json.encode({"response": event.text, "done": False}) + b"\n"
            elif isinstance(event, Finished):
                yield msgspec.json.encode({"done": True, "done_reason": event.reason}) + b"\n"
    except HuggingLlamaError as error:
        yield msgspec.json.encode({"error": error.message, "code": error.code}) + b"\n"
