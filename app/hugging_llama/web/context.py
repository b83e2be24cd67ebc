"""What the endpoints around the dialects need: the exporter of metrics and the engine's device."""

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from hugging_llama.dialects.mounts import mounted
from hugging_llama.web.engine_ledger import EngineLedger

WEB_EXTENSION = "hugging_llama_web"


class Exporter(Protocol):
    """Renders the web side's metrics: the text and its content type."""

    def generate_metrics(self) -> tuple[str, str]: ...


@dataclass(slots=True)
class WebContext:
    """`device` is the engine's as far as this worker knows; corrected whenever the engine tells. `openapi` is made when
    somebody asks for it."""

    exporter: Exporter
    device: str
    ledger: EngineLedger = field(default_factory=EngineLedger)
    openapi: dict[str, Any] | None = None


def web_context() -> WebContext:
    """The context of the mount that serves this request."""
    return cast(WebContext, mounted(WEB_EXTENSION))
