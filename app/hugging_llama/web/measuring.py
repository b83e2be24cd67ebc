"""Who is told of each request: figures, the log and, where it is wanted, a trace."""

from typing import TYPE_CHECKING

from hugging_llama.dialects.request_facts import RequestFacts
from hugging_llama.web.access_log import log_request
from hugging_llama.web.figures import Figures
from hugging_llama.web.meter import RequestMeter
from hugging_llama_config.env import ConfigError
from hugging_llama_config.settings import Settings

if TYPE_CHECKING:
    from hugging_llama.web.tracing import Tracer


def request_meter(settings: Settings, figures: Figures, tracer: "Tracer | None") -> RequestMeter:
    """`tracer` is that of `tracer_of`."""
    end = [_pay, log_request, figures.end] if settings.access_log else [_pay, figures.end]
    if tracer is None:
        return RequestMeter([figures.begin], end)
    return RequestMeter([figures.begin, tracer.begin], [tracer.end, *end], [tracer.answered])


def _pay(facts: RequestFacts) -> None:
    if facts.spend is not None:
        facts.spend(facts.prompt_tokens + facts.output_tokens)


def tracer_of(settings: Settings, *, own: bool) -> "Tracer | None":
    """None where no traces are wanted. `own`: the process is ours, not an application's that mounts us. Raises
    ConfigError without OpenTelemetry."""
    if not settings.tracing:
        return None
    try:
        # imported where it is wanted, and nowhere else
        from hugging_llama.web.tracing import Tracer
    except ImportError as error:
        raise ConfigError(
            f"HUGGING_LLAMA_TRACING: {error.name} is not installed: pip install 'hugging-llama[otel]'"
        ) from None
    return Tracer(own=own)
