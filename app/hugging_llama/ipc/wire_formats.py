"""Output formats as they cross the socket."""

from hugging_llama.errors import ProtocolError
from hugging_llama.ipc import messages as wire
from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema, Lark, OutputFormat, Regex


def wire_format(format: OutputFormat | None) -> wire.WireFormat | None:
    """For the wire."""
    match format:
        case None:
            return None
        case JsonObject():
            return wire.WireFormat("object", ())
        case JsonSchema(text):
            return wire.WireFormat("schema", (text,))
        case Regex(pattern):
            return wire.WireFormat("regex", (pattern,))
        case Choice(options):
            return wire.WireFormat("choice", options)
        case Lark(text):
            return wire.WireFormat("lark", (text,))


def neutral_format(format: wire.WireFormat | None) -> OutputFormat | None:
    """From the wire. Raises ProtocolError."""
    if format is None:
        return None
    if format.kind == "object":
        return JsonObject()
    if format.kind == "choice":
        return Choice(format.texts)
    if len(format.texts) != 1:
        raise ProtocolError("a format has one text")
    if format.kind == "schema":
        return JsonSchema(format.texts[0])
    return Regex(format.texts[0]) if format.kind == "regex" else Lark(format.texts[0])
