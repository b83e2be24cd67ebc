"""OpenTelemetry: a trace of each request, from its headers to its last byte, with what the engine did for it.

Nobody but whoever turns tracing on imports this module. The spans of the engine (`load`, `queue`, `prefill`, `decode`)
are made here, when an answer has ended, of the times that the engine tells of it, laid one behind the other from when
it was asked; what it does not tell, such as rendering the prompt, is the rest of the span around them. The trace of a
caller (`traceparent`) goes on; `traceresponse` tells ours.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from flask import Response, request

from hugging_llama.dialects.request_facts import AnswerFacts, RequestFacts
from hugging_llama_config.redaction import redacted

# by name: the packages are an extra, so there may be no types of them
trace: Any = import_module("opentelemetry.trace")
context: Any = import_module("opentelemetry.context")
_propagation: Any = import_module("opentelemetry.trace.propagation.tracecontext")
_sdk: Any = import_module("opentelemetry.sdk.trace")
_export: Any = import_module("opentelemetry.sdk.trace.export")
_resources: Any = import_module("opentelemetry.sdk.resources")
_otlp: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")

HEADER = "traceresponse"
SERVICE = "hugging-llama"


class Tracer:
    """With a provider of its `own` it exports by OTLP; in another application that one's provider does what it does."""

    def __init__(self, *, own: bool) -> None:
        self._provider = _provider() if own else None
        self._propagator = _propagation.TraceContextTextMapPropagator()

    def begin(self, facts: RequestFacts) -> None:
        """A request has come: part of the trace of a span that is open already, else of its caller's. Probes and
        scrapes have none."""
        if facts.is_probe:
            return
        here = context.get_current()
        if not trace.get_current_span(here).get_span_context().is_valid:
            here = self._propagator.extract(request.headers, here)
        facts.span = self._tracer().start_span(
            f"{facts.method} {facts.endpoint}", here, kind=trace.SpanKind.SERVER, start_time=facts.started_at_ns
        )
        if (told := facts.span.get_span_context()).is_valid:
            facts.trace_id = f"{told.trace_id:032x}"

    def answered(self, facts: RequestFacts, response: Response) -> None:
        """Tell the caller where it is found."""
        if facts.span is not None and facts.trace_id:
            told = facts.span.get_span_context()
            response.headers[HEADER] = f"00-{facts.trace_id}-{told.span_id:016x}-{told.trace_flags:02x}"

    def end(self, facts: RequestFacts) -> None:
        """A request has ended."""
        span, facts.span = facts.span, None
        if span is None:
            return
        end_ns = facts.started_at_ns + round(facts.duration_s * 1e9)
        if span.is_recording():
            span.set_attributes(_attributes(facts))
            # what a caller did wrong is no error of the server; one inside a stream has its status behind it
            if facts.error and not 400 <= facts.status < 500:
                span.set_status(trace.Status(trace.StatusCode.ERROR, facts.error))
            for answer in facts.answers:
                self._add(answer, span)
        span.end(max(end_ns, facts.started_at_ns))

    def close(self) -> None:
        """Send what has ended, and nothing from now on; the end of the process does so, too."""
        if self._provider is not None:
            self._provider.shutdown()

    def _tracer(self) -> Any:
        return (self._provider or trace.get_tracer_provider()).get_tracer("hugging_llama")

    def _add(self, answer: AnswerFacts, parent: Any) -> None:
        tracer = self._tracer()
        around = trace.set_span_in_context(parent)
        span = tracer.start_span(answer.kind, around, start_time=answer.begun_at_ns)
        span.set_attributes({"gen_ai.request.model": answer.model, "hugging_llama.outcome": answer.outcome})
        inside = trace.set_span_in_context(span)
        for name, start_ns, end_ns in _steps(answer):
            tracer.start_span(name, inside, start_time=start_ns).end(end_ns)
        if answer.usage is not None:
            span.set_attributes(
                {
                    "gen_ai.usage.input_tokens": answer.usage.num_prompt_tokens,
                    "gen_ai.usage.output_tokens": answer.usage.num_output_tokens,
                    "hugging_llama.cached_tokens": answer.usage.num_cached_tokens,
                }
            )
        span.end(answer.ended_at_ns)


def _steps(answer: AnswerFacts) -> Iterator[tuple[str, int, int]]:
    """What the engine did, one thing after the other; nothing is said of what took no time."""
    usage, at = answer.usage, answer.begun_at_ns
    if usage is None:
        return
    took = {"load": usage.load_ns, "queue": usage.queue_ns, "prefill": usage.prompt_ns, "decode": usage.decode_ns}
    for name, duration_ns in took.items():
        if duration_ns > 0:
            yield name, at, at + duration_ns
            at += duration_ns


def _attributes(facts: RequestFacts) -> dict[str, str | int | float]:
    found: dict[str, str | int | float | None] = {
        "http.request.method": facts.method,
        "http.route": facts.endpoint,
        "http.response.status_code": facts.status,
        "hugging_llama.request_id": redacted(facts.request_id),
        "hugging_llama.key_id": facts.key_id,
        "gen_ai.request.model": facts.model,
        "gen_ai.usage.input_tokens": facts.prompt_tokens,
        "gen_ai.usage.output_tokens": facts.output_tokens,
        "hugging_llama.first_token_s": facts.first_token_s,
        "error.type": facts.error or ("left" if facts.has_left else ""),
    }
    return {name: value for name, value in found.items() if value}


def _provider() -> Any:
    """Where spans go, and which are kept, is said by OpenTelemetry's own variables, which its library reads."""
    resource = _resources.Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(_resources.Resource({"service.name": SERVICE}))
    provider = _sdk.TracerProvider(resource=resource)
    provider.add_span_processor(_export.BatchSpanProcessor(_otlp.OTLPSpanExporter()))
    return provider
