"""The wire between web workers and engine: everything survives it, and nothing that arrives can crash a side."""

import math
import random
from array import array
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import (
    ContextLengthError,
    EngineBusyError,
    GenerationError,
    HuggingLlamaError,
    InvalidRequestError,
    ProtocolError,
)
from hugging_llama.ipc import codec, wire_prompts
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.channel import FrameReader, frame
from hugging_llama.ipc.facade import Answer
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.classification import Activation, ProblemType
from hugging_llama.neutral.events import (
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    Finished,
    FinishReason,
    Loaded,
    Progress,
    PromptLogprobs,
    Queued,
    Started,
    TextDelta,
    ThinkingDelta,
    Tokenized,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema, Lark, Regex
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ChatPrompt,
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    InsertPrompt,
    LoadRequest,
    SamplingParams,
    TextPrompt,
    TokenizeRequest,
    TokensPrompt,
)

texts = st.text(max_size=30)
counts = st.integers(0, 2**40)
seconds = st.floats(min_value=0, allow_nan=False)
optional_seconds = st.none() | seconds
token_ids = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)
json_values = st.recursive(
    # any size of whole number, and text that UTF-8 can't hold
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)
tool_calls = st.builds(ToolCall, id=texts, name=texts, arguments=objects, index=st.integers(0, 9))
tools = st.builds(Tool, name=texts, description=texts, parameters=objects)
messages = st.builds(
    Message,
    role=texts,
    content=texts,
    thinking=texts,
    tool_calls=st.lists(tool_calls, max_size=2).map(tuple),
    tool_name=st.none() | texts,
    tool_call_id=st.none() | texts,
)
models = st.builds(ModelRef, name=texts, path=texts, digest=texts, quantization=texts, adapter=texts)
chats = st.builds(
    ChatPrompt,
    messages=st.lists(messages, max_size=3).map(tuple),
    tools=st.lists(tools, max_size=2).map(tuple),
    think=st.none() | st.booleans() | texts,
    context=token_ids,
    template=texts,
)
inserts = st.builds(InsertPrompt, prefix=texts, suffix=texts, template=texts)
token_prompts = st.builds(TokensPrompt, token_ids=st.lists(st.integers(0, 2**31), max_size=5).map(tuple))
prompts = st.builds(TextPrompt, text=texts) | token_prompts | inserts | chats
sampling = st.builds(
    SamplingParams,
    temperature=seconds,
    top_k=st.integers(0, 2**31),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    max_tokens=st.none() | counts,
    stop=st.lists(texts, max_size=3).map(tuple),
    logit_bias=st.lists(st.tuples(st.integers(0, 2**31) | texts, st.floats(-1e4, 1e4)), max_size=3).map(tuple),
    bad_words=st.lists(texts | token_ids, max_size=3).map(tuple),
    suppress_tokens=token_ids,
    begin_suppress_tokens=token_ids,
    early_stopping=st.booleans() | st.just("never"),
    top_logprobs=st.none() | st.integers(0, 20),
)
callers = st.builds(Caller, texts, st.integers(-(2**31), 2**31))
requests = st.builds(
    GenerateRequest,
    model=models,
    prompt=prompts,
    sampling=sampling,
    format=st.sampled_from([None, JsonObject(), JsonSchema("{}"), Regex("a"), Choice(("a", "b")), Lark('start: "a"')]),
    context_length=st.none() | counts,
    keep_alive_s=optional_seconds,
    truncate=st.booleans(),
    shift=st.booleans(),
    return_context=st.booleans(),
    tells_start=st.booleans(),
    tells_progress=st.booleans(),
    prompt_logprobs=st.none() | st.integers(0, 20),
    caller=callers,
)
tokenize_requests = st.builds(
    TokenizeRequest,
    model=models,
    prompt=prompts,
    add_special_tokens=st.booleans(),
    return_text=st.booleans(),
    context_length=st.none() | counts,
    keep_alive_s=optional_seconds,
    caller=callers,
)
float32s = st.lists(st.floats(width=32, allow_nan=False), max_size=6).map(lambda values: array("f", values))
loaded_models = st.builds(
    LoadedModel,
    name=texts,
    path=texts,
    digest=texts,
    size_bytes=counts,
    size_vram_bytes=counts,
    context_length=counts,
    expires_at_s=seconds,
    ref_count=counts,
    device=texts,
    dtype=texts,
    runner=texts,
    runner_reason=texts,
)
floats = st.floats(-1e4, 0)
alternatives = st.lists(st.builds(TokenLogprob, st.binary(max_size=4), floats), max_size=3).map(tuple)
logprobs = st.lists(st.builds(TokenLogprob, st.binary(max_size=4), floats, alternatives), max_size=2).map(tuple)
usages = st.builds(Usage, **{f.name: counts for f in fields(Usage)})
waits = st.none() | st.builds(Queued, position=counts, expected_s=floats, waited_ns=counts)
events: st.SearchStrategy[Answer] = st.one_of(
    st.builds(Started, num_prompt_tokens=counts, num_cached_tokens=counts, num_truncated_tokens=counts, queued=waits),
    st.builds(Progress, phase=st.sampled_from(["load", "queue", "prompt"]), position=counts, completed=counts),
    st.builds(PromptLogprobs, logprobs, st.none() | st.binary(max_size=4)),
    st.builds(TextDelta, texts, logprobs),
    st.builds(ThinkingDelta, texts, logprobs),
    st.builds(ToolCallDelta, tool_calls),
    st.builds(Finished, reason=st.sampled_from(FinishReason), usage=usages, context=token_ids),
    st.builds(
        Embeddings,
        vectors=st.lists(float32s, max_size=3).map(tuple),
        num_prompt_tokens=counts,
        load_ns=counts,
        queued=waits,
    ),
    st.builds(
        Classified,
        scores=st.lists(float32s, max_size=3).map(tuple),
        labels=st.lists(texts, max_size=3).map(tuple),
        num_prompt_tokens=counts,
        activation=st.none() | st.sampled_from(Activation),
        problem_type=st.none() | st.sampled_from(ProblemType),
        load_ns=counts,
        queued=waits,
    ),
    st.builds(Tokenized, token_ids=token_ids, text=texts, load_ns=counts),
    st.builds(Detokenized, text=texts, load_ns=counts),
    st.builds(Loaded, model=loaded_models, load_ns=counts),
)


def over_the_wire(command: wire.Command) -> Any:
    return codec.decode_command(codec.encode_command(command))


def back_over_the_wire(*replies: tuple[int, codec.Reply]) -> list[tuple[int, codec.Reply]]:
    return codec.decode_items(codec.encode_items(codec.item_for(rid, reply) for rid, reply in replies))


@given(requests)
def test_a_generate_request_survives_the_wire(request: GenerateRequest) -> None:
    received = over_the_wire(wire.Generate(7, codec.wire_generate(request)))
    assert received.request_id == 7
    assert codec.neutral_generate(received.request) == request


@given(tokenize_requests, token_ids)
def test_tokenize_and_detokenize_requests_survive_the_wire(request: TokenizeRequest, ids: tuple[int, ...]) -> None:
    received = over_the_wire(wire.Tokenize(7, codec.wire_tokenize(request)))
    assert (received.request_id, codec.neutral_tokenize(received.request)) == (7, request)
    detokenize = DetokenizeRequest(model=request.model, token_ids=ids, keep_alive_s=request.keep_alive_s)
    assert over_the_wire(wire.Detokenize(8, detokenize)) == wire.Detokenize(8, detokenize)


@given(models, st.lists(texts, max_size=3).map(tuple), st.none() | st.integers(1, 4096), optional_seconds)
def test_embed_and_load_requests_survive_the_wire(
    model: ModelRef, inputs: tuple[str, ...], dimensions: int | None, keep_alive_s: float | None
) -> None:
    embed = EmbedRequest(
        model=model, inputs=inputs, dimensions=dimensions, keep_alive_s=keep_alive_s, caller=Caller("a", -1)
    )
    load = LoadRequest(model=model, context_length=dimensions, keep_alive_s=keep_alive_s, caller=Caller("a", -1))
    assert over_the_wire(wire.Embed(1, embed)) == wire.Embed(1, embed)
    assert over_the_wire(wire.Load(2, load)) == wire.Load(2, load)


@given(models, st.lists(texts | st.tuples(texts, texts), max_size=3).map(tuple), st.booleans(), optional_seconds)
def test_a_classify_request_survives_the_wire(
    model: ModelRef, inputs: tuple[str | tuple[str, str], ...], truncate: bool, keep_alive_s: float | None
) -> None:
    request = ClassifyRequest(
        model=model, inputs=inputs, truncate=truncate, keep_alive_s=keep_alive_s, caller=Caller("b", 2)
    )
    assert over_the_wire(wire.Classify(1, request)) == wire.Classify(1, request)


@given(st.lists(st.tuples(st.integers(1, 2**40), events), max_size=8))
def test_the_answers_of_a_step_survive_the_wire(answers: list[tuple[int, codec.Reply]]) -> None:
    assert back_over_the_wire(*answers) == answers


def test_models_status_and_hello_survive_the_wire() -> None:
    status = EngineStatus(pid=1, device="cpu", num_running=3, output_tokens_total=2**50)
    hello = codec.EngineHello(1, "abc", 42)
    assert back_over_the_wire((1, status), (0, hello), (2, codec.LoadedModels(()))) == [
        (1, status),
        (0, hello),
        (2, codec.LoadedModels(())),
    ]


def test_infinite_durations_survive_the_wire() -> None:
    load = LoadRequest(model=ModelRef(name="m", path="p"), keep_alive_s=math.inf)
    assert over_the_wire(wire.Load(1, load)).request.keep_alive_s == math.inf


def test_tool_arguments_keep_their_order_and_any_whole_number() -> None:
    call = ToolCall(id="1", name="f", arguments={"z": 10**40, "a": "\ud83d", "m": [1.5, None]})
    ((_, received),) = back_over_the_wire((1, ToolCallDelta(call)))
    assert isinstance(received, ToolCallDelta)
    assert received.call == call
    assert list(received.call.arguments) == ["z", "a", "m"]


@pytest.mark.parametrize(
    "error",
    [
        ContextLengthError(5000, 4096),
        EngineBusyError("full", queue_depth=512, retry_after_s=1.5),
        InvalidRequestError("bad \ud800", param="p"),
        HuggingLlamaError("unknown", path=object),
    ],
)
def test_errors_cross_as_code_message_and_facts(error: HuggingLlamaError) -> None:
    ((_, received),) = back_over_the_wire((3, error))
    assert type(received) is type(error)
    assert isinstance(received, HuggingLlamaError)
    assert received.facts.keys() == error.facts.keys()


@pytest.mark.parametrize("name", ["message", "self"])
def test_facts_that_collide_with_parameters_are_a_protocol_error(name: str) -> None:
    payload = codec.encode_items([wire.ErrorItem(1, "generation", "m", f'{{"{name}": 1}}')])
    with pytest.raises(ProtocolError):
        codec.decode_items(payload)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(model=ModelRef(name="m", path="p"), prompt=TextPrompt(text="\ud800")),
        GenerateRequest(
            model=ModelRef(name="m", path="p"), prompt=TextPrompt(text=""), sampling=SamplingParams(seed=2**70)
        ),
        GenerateRequest(
            model=ModelRef(name="m", path="p"),
            prompt=ChatPrompt(messages=(), tools=(Tool(name="f", parameters={"x": object()}),)),
        ),
    ],
    ids=["lone surrogate", "huge seed", "schema that is no JSON"],
)
def test_what_no_frame_can_hold_is_an_invalid_request(request_: GenerateRequest) -> None:
    with pytest.raises(InvalidRequestError):
        codec.encode_command(wire.Generate(1, codec.wire_generate(request_)))


@pytest.mark.parametrize(
    ("struct", "neutral"),
    [
        (wire.WireGenerate, GenerateRequest),
        (wire.WireTokenize, TokenizeRequest),
        (wire_prompts.WireChat, ChatPrompt),
        (wire_prompts.WireText, TextPrompt),
        (wire_prompts.WireInsert, InsertPrompt),
        (wire_prompts.WireTokens, TokensPrompt),
        (wire_prompts.WireMessage, Message),
        (wire_prompts.WireTool, Tool),
        (wire_prompts.WireToolCall, ToolCall),
    ],
)
def test_no_field_of_the_vocabulary_is_left_behind(struct: Any, neutral: Any) -> None:
    assert list(struct.__struct_fields__) == [f.name for f in fields(neutral)]


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(1, 7))
def test_frames_are_found_however_the_bytes_are_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(map(frame, payloads))
    reader = FrameReader()
    found = [f for start in range(0, len(stream), size) for f in reader.feed(stream[start : start + size])]
    assert found == payloads


def test_an_impossible_length_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        list(FrameReader(max_bytes=10).feed(frame(b"x" * 11)))


def test_ten_thousand_mangled_frames_crash_nobody() -> None:
    rng = random.Random(0)
    chat = ChatPrompt(messages=(Message(role="user", content="hi"),), tools=(Tool(name="f"),))
    generate = GenerateRequest(model=ModelRef(name="m", path="p"), prompt=chat)
    commands: list[wire.Command] = [
        wire.Hello(1, "abc", 1),
        wire.Generate(1, codec.wire_generate(generate)),
        wire.Embed(2, EmbedRequest(model=generate.model, inputs=("a",))),
        wire.Classify(5, ClassifyRequest(model=generate.model, inputs=("a", ("q", "d")))),
        wire.Tokenize(3, codec.wire_tokenize(TokenizeRequest(model=generate.model, prompt=chat))),
        wire.Detokenize(4, DetokenizeRequest(model=generate.model, token_ids=(1, 2))),
        wire.Unload(ModelRef(name="x", path="x")),
    ]
    call = ToolCall(id="1", name="f", arguments={"a": 1})
    vectors = (tuple(array("f", [1.0, 2.0])),)
    replies: list[codec.Reply] = [
        TextDelta("héllo"),
        ToolCallDelta(call),
        Finished(reason=FinishReason.STOP, context=(1, 2)),
        Embeddings(vectors=vectors, num_prompt_tokens=2, num_truncated_tokens=7),
        Classified(scores=vectors, labels=("a", "b"), num_prompt_tokens=2, activation=Activation.TANH),
        ContextLengthError(2, 1),
    ]
    good = [codec.encode_command(command) for command in commands]
    good += [codec.encode_items([codec.item_for(1, reply)]) for reply in replies]
    outcomes = set()
    for _ in range(10_000):
        payload = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 4)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        if rng.random() < 0.2:
            del payload[rng.randrange(len(payload)) :]
        outcomes |= {survives(codec.decode_command, payload), survives(codec.decode_items, payload)}
    assert outcomes == {True, False}


def survives(decode: Any, payload: bytearray) -> bool:
    """Whether the payload was understood; any other error than those of codec's is a failure of the test."""
    try:
        found = decode(bytes(payload))
        if isinstance(found, wire.Generate):
            codec.neutral_generate(found.request)
        if isinstance(found, wire.Tokenize):
            codec.neutral_tokenize(found.request)
    except (ProtocolError, GenerationError):
        return False
    return True
