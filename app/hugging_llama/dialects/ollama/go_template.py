"""Templates of callers: Jinja as it is, Ollama's Go templates translated to it."""

import re

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hugging_llama.dialects.ollama.gotemplate.errors import TemplateError
from hugging_llama.dialects.ollama.gotemplate.parser import parse
from hugging_llama.dialects.ollama.gotemplate.translation import translated
from hugging_llama.errors import InvalidRequestError

_MAX_JINJA = 65_536
_MAX_GO = 16_384
"""Characters; the worker that reads them serves nobody else meanwhile, and no family needs half as many."""

_JINJA = re.compile(
    r"\{%[-+]?\s*(?:if|else|elif|for|set|macro|call|filter|with|raw|generation|block|break|continue|end[a-z]+)\b"
)
_GO = re.compile(r"\{\{(?:-\s)?\s*(?:/\*|[.$(]|[a-zA-Z]+\s+[.$(\"`]|(?:end|else|break|continue)\b)")


class _Generation(Extension):
    """`{% generation %}` marks answers for training; transformers' renderer knows it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def to_jinja(text: str) -> str:
    """A chat template in Jinja: `text` itself if it is one, else what its Go template says; "" stays "".

    Nothing is rendered here. Raises InvalidRequestError ("template error: …") for what is wrong, too long, or has no
    place in Jinja.
    """
    language, most = ("Jinja", _MAX_JINJA) if is_jinja(text[:_MAX_JINJA]) else ("Go", _MAX_GO)
    if len(text) > most:
        raise _refused(f"a template in {language} may have {most} characters")
    try:
        if language == "Go":
            return translated(parse(text)) if text else ""
        _check(text)
    except TemplateError as error:
        raise _refused(str(error)) from None
    except TemplateSyntaxError as error:
        raise _refused(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise _refused("the template is nested too deeply") from None
    return text


def is_jinja(text: str) -> bool:
    """Whether a template is in Jinja rather than in Go's language."""
    if _JINJA.search(text) or _GO.search(text):
        return _JINJA.search(text) is not None
    return "{{" in text or "{#" in text


def _check(text: str) -> None:
    """Raises TemplateSyntaxError. Jinja's compiler is not called: it computes constant expressions, of any size."""
    environment = ImmutableSandboxedEnvironment(extensions=[_Generation, loopcontrols])
    tree = environment.parse(text)
    for kind, known in ((nodes.Filter, environment.filters), (nodes.Test, environment.tests)):
        for node in tree.find_all(kind):
            if node.name not in known:
                raise TemplateSyntaxError(f"no {kind.__name__.lower()} is called {node.name!r}", node.lineno)


def _refused(sentence: str) -> InvalidRequestError:
    return InvalidRequestError(f"template error: {sentence}", param="template")
