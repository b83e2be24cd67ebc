"""The engine that plays a script, as applications that mount us use it in their tests."""

import threading

import pytest

from hugging_llama.client.base import EngineClient
from hugging_llama.errors import EngineDiedError, GenerationError
from hugging_llama.neutral.events import Finished, FinishReason, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, TextPrompt
from hugging_llama.testing import HELLO, ScriptedEngine, UntilClosed

REQUEST = GenerateRequest(model=ModelRef(name="m", path="p"), prompt=TextPrompt(text="hi"))


def test_it_is_an_engine_client_that_plays_its_script_for_every_request() -> None:
    engine = ScriptedEngine()
    client: EngineClient = engine
    assert [tuple(client.generate(REQUEST)) for _ in range(2)] == [HELLO, HELLO]
    assert engine.requests == [REQUEST, REQUEST]


def test_a_script_may_depend_on_the_request_and_fail() -> None:
    def script(request: GenerateRequest) -> list[TextDelta | GenerationError]:
        assert isinstance(request.prompt, TextPrompt)
        return [TextDelta(request.prompt.text.upper()), GenerationError("boom")]

    stream = ScriptedEngine(generate=script).generate(REQUEST)
    assert next(stream) == TextDelta("HI")
    with pytest.raises(GenerationError, match="boom"):
        next(stream)


def test_a_step_can_wait_until_the_stream_is_closed() -> None:
    engine = ScriptedEngine(generate=[TextDelta("a"), UntilClosed(), Finished(reason=FinishReason.STOP)])
    stream = engine.generate(REQUEST)
    assert next(stream) == TextDelta("a")
    threading.Timer(0.05, stream.close).start()
    assert list(stream) == []
    assert engine.streams[0].wait_closed(60)
    assert engine.streams[0].is_closed


def test_a_closed_engine_is_dead() -> None:
    engine = ScriptedEngine()
    engine.close()
    with pytest.raises(EngineDiedError):
        engine.status(1)
    with pytest.raises(EngineDiedError):
        list(engine.generate(REQUEST))
