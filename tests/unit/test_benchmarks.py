"""What the benchmarks rest on: the clock of a stream, the three wires, prompts that are as long as they say."""

import asyncio
from collections.abc import Sequence

import pytest
from benchmarks.bench_model import make_prompts, word_tokenizer
from benchmarks.client import Wire, ask, llama_wire, ollama_wire, openai_wire
from benchmarks.measure import Stream, decode_rate, first_token_s, run_rate
from benchmarks.report import Ratio

# as the servers write it, cut down to the keys that matter
OLLAMA = (
    b'{"model":"m","response":" ab","done":false}\n{"model":"m","response":" cd","done":false}\n'
    b'{"model":"m","response":"","done":true,"prompt_eval_count":5,"eval_count":2}\n'
)
LLAMA = (
    b'data: {"index":0,"content":" ab","tokens":[7],"stop":false,"tokens_predicted":1,"tokens_evaluated":5}\n\n'
    b'data: {"index":0,"content":"","tokens":[8],"stop":false,"tokens_predicted":2,"tokens_evaluated":5}\n\n'
    b'data: {"index":0,"content":"","tokens":[],"stop":true,"tokens_predicted":2,"tokens_evaluated":5}\n\n'
)
OPENAI = (
    b'data: {"choices":[{"text":" ab","index":0}]}\n\ndata: {"choices":[{"text":" cd","index":0}]}\n\n'
    b'data: {"choices":[{"text":"","finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)
PROMPT = make_prompts(1, 5, seed=0)[0]


def ask_replayed(wire: Wire, answer: bytes) -> Stream:
    """What the client makes of a server that says `answer` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def run() -> Stream:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(ask(port, wire.path, wire.body(PROMPT, 2), wire.read), 60)

    return asyncio.run(run())


def chunked(body: bytes, size: int) -> bytes:
    """`body` in chunks that care about no line."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "body", "text"),
    [(ollama_wire("m"), OLLAMA, " ab cd"), (llama_wire(), LLAMA, " ab"), (openai_wire("m"), OPENAI, " ab cd")],
)
@pytest.mark.parametrize("size", [7, 10_000])
def test_a_stream_is_read_whatever_its_chunks(wire: Wire, body: bytes, text: str, size: int) -> None:
    for answer in (chunked(body, size), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body):
        stream = ask_replayed(wire, answer)
        assert (stream.num_prompt_tokens, stream.num_output_tokens, len(stream.token_times_s)) == (5, 2, 2)
        assert stream.text == text
        assert stream.sent_s < stream.token_times_s[0]


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 404 NOT FOUND\r\n\r\n{"error":"model not found"}',
        chunked(b'{"response":" ab","done":false}\n{"error":"it broke"}\n', 100),
        chunked(b'{"response":" ab","done":false}\n', 100),
    ],
)
def test_a_stream_that_fails_is_no_measurement(answer: bytes) -> None:
    with pytest.raises(RuntimeError):
        ask_replayed(ollama_wire("m"), answer)


def stream(sent_s: float, times_s: Sequence[float], num_output_tokens: int | None = None) -> Stream:
    return Stream(
        sent_s=sent_s,
        token_times_s=tuple(times_s),
        num_prompt_tokens=1,
        num_output_tokens=num_output_tokens or len(times_s),
    )


def test_rates_of_a_wave() -> None:
    wave = [stream(0.0, [1.0, 2.0, 3.0, 4.0]), stream(0.0, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])]
    assert run_rate(wave) == pytest.approx(10 / 8)
    # both stream between 3 and 4 only, a token each
    assert decode_rate(wave) == pytest.approx(2.0)
    assert first_token_s(wave) == 2.0
    assert wave[0].gaps_s == (1.0, 1.0, 1.0)
    # eleven tokens in six events
    assert stream(0.0, range(6), num_output_tokens=11).token_s == pytest.approx(0.5)


def test_streams_that_never_overlap_have_no_common_rate() -> None:
    assert decode_rate([stream(0.0, [1.0, 2.0]), stream(0.0, [3.0, 4.0])]) == 0.0


def test_prompts_are_as_long_as_they_say_and_text_comes_back_as_its_tokens() -> None:
    tokenizer = word_tokenizer()
    prompts = make_prompts(3, 64, seed=1)
    assert len({prompt.text for prompt in [*prompts, *make_prompts(3, 64, seed=2)]}) == 6
    for prompt in prompts:
        assert len(prompt.token_ids) == 64
        assert tuple(tokenizer(prompt.text)["input_ids"]) == prompt.token_ids
        assert tokenizer.decode(list(prompt.token_ids)) == prompt.text


def test_a_ratio_says_whether_it_is_met() -> None:
    assert [Ratio(what="x", value=1.4, at_least=bound).is_met for bound in (1.4, 1.5, None)] == [True, False, None]
    assert [Ratio(what="x", value=1.4, at_most=bound).is_met for bound in (1.4, 1.3)] == [True, False]
