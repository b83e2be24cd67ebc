"""CPU time that a dialect takes for one chunk of a stream: an event of the engine to the bytes of the answer.

    python -m benchmarks.dialects

Each dialect renders the same events, first alone, then through its view and Flask, as a worker does (the engine plays a
script, so nothing is computed). Best of five runs, in microseconds of CPU a chunk.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flask.testing import FlaskClient

from hugging_llama import create_app
from hugging_llama.dialects.anthropic.create import MessageRenderer
from hugging_llama.dialects.ollama.clock import Stopwatch
from hugging_llama.dialects.ollama.render import AnswerRenderer, chat_piece
from hugging_llama.dialects.openai.chat import ChatRenderer
from hugging_llama.dialects.openai.responses.answer import Answer
from hugging_llama.dialects.openai.responses.render import ResponseRenderer
from hugging_llama.dialects.openai.responses.tools import ToolSet
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, TextDelta
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings

MODEL = "hugging-llama/demo"
RUNS = 5
HI = [{"role": "user", "content": "Hi"}]
BODIES = {
    "/api/chat": {"model": MODEL, "messages": HI},
    "/v1/chat/completions": {"model": MODEL, "messages": HI, "stream": True},
    "/v1/messages": {"model": MODEL, "messages": HI, "max_tokens": 9, "stream": True},
    "/v1/responses": {"model": MODEL, "input": "Hi", "store": False, "stream": True},
}


def renderers() -> dict[str, Callable[[GenerateEvent], bytes]]:
    """New ones, by their path."""
    chat = ChatRenderer(model=MODEL, num_choices=1)
    return {
        "/api/chat": AnswerRenderer(model=MODEL, piece=chat_piece, watch=Stopwatch(in_seconds=False)).line,
        "/v1/chat/completions": lambda event: chat.chunk((0, event)),
        "/v1/messages": MessageRenderer(model=MODEL).chunk,
        "/v1/responses": ResponseRenderer(response={"id": "resp_1"}, answer=Answer(ToolSet())).chunk,
    }


def events(number: int) -> list[GenerateEvent]:
    """An answer of so many tokens, each an event."""
    return [*(TextDelta(" word") for _ in range(number)), Finished(reason=FinishReason.LENGTH)]


def rendering_us(path: str, number: int) -> float:
    """Of the renderer alone."""
    answer = events(number)
    times = []
    for _ in range(RUNS):
        render = renderers()[path]
        start = time.process_time()
        for event in answer:
            render(event)
        times.append(time.process_time() - start)
    return min(times) / number * 1e6


def serving_us(path: str, number: int) -> float:
    """Of all that a worker does for a stream, without what an answer of one token takes, too."""

    def run(length: int) -> float:
        client = scripted_client(Path(folder), length)
        times = []
        for _ in range(RUNS):
            start = time.process_time()
            for _ in client.post(path, json=BODIES[path]).iter_encoded():
                pass
            times.append(time.process_time() - start)
        return min(times)

    with tempfile.TemporaryDirectory() as folder:
        return (run(number) - run(1)) / (number - 1) * 1e6


def scripted_client(folder: Path, number: int) -> FlaskClient:
    """The application over an engine whose answers have so many tokens."""
    settings = load_settings(environ={"HOME": str(folder), "HUGGING_LLAMA_RUN_DIR": str(folder / "run")})
    return create_app(settings, engine=ScriptedEngine(generate=events(number))).test_client()


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=20_000, help="tokens of an answer (default: 20000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    found = {
        path: {"rendering_us": rendering_us(path, args.chunks), "serving_us": serving_us(path, args.chunks)}
        for path in BODIES
    }
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'microseconds of CPU a chunk':28}{'rendering':>12}{'served':>12}")
    for path, times in found.items():
        print(f"{path:28}{times['rendering_us']:12.1f}{times['serving_us']:12.1f}")


if __name__ == "__main__":
    main()
