"""A running server as its callers see it, through whatever is in between: streams, bodies, names, encryption."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from hugging_llama_cli.checks.finding import Finding, Subject, ok, problem, warning
from hugging_llama_cli.checks.stream_trial import ClosedError, NoAnswerError, StreamTrial, Target
from hugging_llama_config.exposure import is_loopback

_FOREIGN_HOST = "doctor.example.com"
_LARGE_BODY_BYTES = 4 * 2**20
_ADVICE = {
    401: "set HUGGING_LLAMA_API_KEY to a key of that server",
    403: "the proxy must rewrite Host (nginx: proxy_set_header Host 127.0.0.1;), or the server lacks your origin",
    404: "is it Hugging Llama, and is the path in --url right?",
    413: "raise the proxy's limit of bodies (nginx: client_max_body_size 0;)",
    429: "this key is over its limits: wait, or use another one",
    502: "the proxy does not reach the server: is it running, and is the proxy's target right?",
    503: "the server has no engine or its queue is full: its log says which",
    504: "the proxy did not wait long enough: raise its time-out above a load (nginx: proxy_read_timeout 1h;)",
}
_UNREACHED = "is it running, and is the address right?"
_BUFFERING = (
    "switch buffering off in the proxy (nginx: proxy_buffering off; proxy_http_version 1.1; gzip off;), and leave "
    "X-Accel-Buffering alone"
)


def check_url(subject: Subject) -> Iterator[Finding]:
    """All of it; nothing where no URL is given."""
    if not subject.url:
        return
    target = Target(subject.url, subject.client)
    try:
        yield from _reach(target)
        yield from _names(target)
        yield from _bodies(target)
        trial = StreamTrial(target, subject.model)
        yield from _streams(trial)
        if subject.direct:
            direct = StreamTrial(Target(subject.direct, subject.client), trial.model)
            yield from _compare(trial, direct)
    except NoAnswerError as error:
        yield problem(str(error), error.advice or _ADVICE.get(error.status, _UNREACHED))


def _reach(target: Target) -> Iterator[Finding]:
    answer = target.json("/api/version")
    if "version" not in answer:
        raise NoAnswerError(f"{target.url} does not answer as Ollama or Hugging Llama do")
    between = "" if target.is_direct else f", through {target.software or 'a proxy'}"
    yield ok(f"{target.url} speaks Ollama's API {answer['version']}{between}")
    parts = urlsplit(target.url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield warning(
            f"{target.url} is not encrypted: whoever is in between reads prompts and keys", "let the proxy speak HTTPS"
        )


def _names(target: Target) -> Iterator[Finding]:
    """Callers use the proxy's name; a server on a loopback address answers to its own names alone."""
    try:
        status = target.status("GET", "/api/version", headers={"Host": _FOREIGN_HOST})
    except ClosedError:  # nginx's 444
        yield ok("other names get no answer: the connection is closed")
        return
    if status < 400:
        yield ok("requests to any name are answered: Host is rewritten, or the server answers to all names")
    elif target.is_direct:
        yield ok(f"other names than this machine's are refused ({status}): a proxy in front must rewrite Host")
    elif status == 403:
        yield problem("the proxy passes Host on, and the server refuses names that are not its machine's", _ADVICE[403])
    else:
        yield ok(f"the proxy answers {status} to a name that is not its own")


def _bodies(target: Target) -> Iterator[Finding]:
    size = f"{_LARGE_BODY_BYTES >> 20} MiB"
    try:
        # a model that can't be, so that nothing is done
        body = {"model": "hugging-llama/no-such-model", "prompt": "x" * _LARGE_BODY_BYTES}
        status = target.status("POST", "/api/generate", body=body)
    except NoAnswerError:
        status = 413  # refused before it was sent whole
    if status == 413:
        advice = "raise max_body_bytes of the server" if target.is_direct else _ADVICE[413]
        yield problem(f"a request of {size} does not get through", advice)
    elif status >= 500 or status in (401, 429):
        yield warning(f"a request of {size} is answered {status}", _ADVICE.get(status, "the server's log says why"))
    else:
        yield ok(f"a request of {size} gets through")


def _streams(trial: StreamTrial) -> Iterator[Finding]:
    found = trial.run()
    said = f"{found.num_lines} pieces of a stream came in {found.num_arrivals} arrivals"
    if found.num_lines < 2:
        yield warning(f"{trial.model} answers in {found.num_lines} pieces: too few to judge by", "name another --model")
    elif found.flows:
        yield ok(f"a stream comes piece by piece: {said}, the first after {found.first_s * 1000:.0f} ms")
    elif found.is_held:
        yield problem(
            f"a stream is held back until its end: {said}, {found.first_s:.1f} of {found.total_s:.1f} s passed before",
            _BUFFERING,
        )
    else:
        yield problem(f"a stream comes in blocks: {said}", _BUFFERING)


def _compare(trial: StreamTrial, direct: StreamTrial) -> Iterator[Finding]:
    near = direct.run()
    if not near.flows and not trial.run().flows:
        yield warning(
            f"{direct.target.url} itself sends {near.num_lines} pieces in {near.num_arrivals} arrivals",
            "it is no fault of the proxy: look at the server, or at the load of this machine",
        )
        return
    through = trial.run()
    yield ok(
        f"the first piece comes after {through.first_s * 1000:.0f} ms, and after {near.first_s * 1000:.0f} ms from "
        f"{direct.target.url} itself"
    )
