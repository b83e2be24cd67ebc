"""An output format to a grammar in llguidance's terms, with bounds on what may be asked."""

import json
from typing import Any

from llguidance import LLMatcher, gbnf_to_lark

from hugging_llama.engine.grammars.json_schemas import prepared
from hugging_llama.errors import GrammarError
from hugging_llama.neutral.formats import Choice, JsonObject, JsonSchema, OutputFormat, Regex

MAX_BYTES = 2**16
"""Far more than any schema in use has; it bounds what is parsed before a grammar is tried out."""
_MAX_CHOICES = 4096
_TOO_LONG = "not JSON serializable"
"""What llguidance says of a number that Python has and it has not."""
_JSON = {
    # Between two tokens. Endless blanks would be JSON too, and small models do fall into writing them.
    "whitespace_pattern": r"[ \n]{0,2}",
    "lenient": False,
    "coerce_one_of": False,
}


def grammar_of(format: OutputFormat) -> str:
    """The grammar as llguidance takes it; whether it makes sense is found out when it is compiled.

    Raises GrammarError for what is too large.
    """
    if isinstance(format, JsonObject):
        return json_grammar({"type": "object"})
    if isinstance(format, JsonSchema):
        return json_grammar(_schema(format.text))
    if isinstance(format, Regex):
        return LLMatcher.grammar_from_regex(_bounded(format.pattern))
    if isinstance(format, Choice):
        return LLMatcher.grammar_from_lark(_choice(format))
    return LLMatcher.grammar_from_lark(_lark(_bounded(format.text)))


def json_schema_of(format: OutputFormat | None) -> dict[str, Any] | None:
    """The JSON Schema that a format stands for; None if it is no JSON. Raises GrammarError."""
    if isinstance(format, JsonObject):
        return {"type": "object"}
    return _schema(format.text) if isinstance(format, JsonSchema) else None


def json_grammar(schema: Any) -> str:
    """The grammar of the values that `schema` allows."""
    try:
        return LLMatcher.grammar_from_json_schema(schema, overrides=_JSON)  # type: ignore[arg-type]  # its stub lacks one option
    except ValueError as error:
        said = str(error)[:200]
        if _TOO_LONG in said:
            said = "it holds a whole number of more than 64 bits"
        raise GrammarError(f"the JSON Schema can't be used: {said}") from error


def _schema(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(_bounded(text))
    except (ValueError, RecursionError) as error:
        raise GrammarError("the JSON Schema is no JSON") from error
    if not isinstance(schema, dict):
        raise GrammarError("the JSON Schema must be an object")
    try:
        return prepared(schema)
    except GrammarError as error:
        raise GrammarError(f"this output format can't be enforced: {error}") from error


def _choice(format: Choice) -> str:
    if not 0 < len(format.options) <= _MAX_CHOICES or "" in format.options:
        raise GrammarError(f"a choice needs 1 to {_MAX_CHOICES} texts that are not empty")
    # JSON's escapes are Lark's; one terminal, as thousands of them would be as many items in a row
    options = " | ".join(json.dumps(option, ensure_ascii=False) for option in format.options)
    return _bounded(f"start: CHOICE\nCHOICE: {options}")


def _lark(text: str) -> str:
    if "::=" not in text:
        return text
    try:
        return gbnf_to_lark.gbnf_to_lark(text)
    except RecursionError as error:
        raise GrammarError("the EBNF grammar can't be read: it is nested too deep") from error
    except LookupError as error:
        raise GrammarError("the EBNF grammar can't be read: it ends in the middle of an escape") from error
    except Exception as error:
        raise GrammarError(f"the EBNF grammar can't be read: {str(error)[:300]}") from error


def _bounded(text: str) -> str:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise GrammarError(f"schemas and grammars may have {MAX_BYTES} bytes")
    return text
