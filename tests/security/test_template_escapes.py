"""Row P1: what a template may not do: reach Python's objects, or a file. (Bombs: tests/engine/test_templates.py.)"""

from typing import Any

import pytest

from hugging_llama.engine.template_process import TemplateFaultError, TemplateProcess

ROWS = [{"role": "user", "content": "hi"}]
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['os'].popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "{{ [messages]|map(attribute='__class__')|list }}",
    "{{ ('{0.__class__}'|attr('format'))(messages) }}",
    "{% set m = '{0.__class__}'.format %}{{ m(messages) }}",
    "{% set _ = messages.append({'role': 'x'}) %}ok",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ messages[0].__class__.__base__.__subclasses__() }}",
    "{{ (1).__class__.__bases__ }}",
    "{{ messages|map('attr', '__class__')|list }}",
    "{{ namespace(__class__=1).__class__ }}",
    "{{ ().__reduce_ex__(2) }}",
    "{{ tools.__getattribute__('__class__') }}",
]
LEAKS = ("<class", "<function", "<module", "uid=", "root:", "__main__", "/usr/", "Environment", "<bound", "object at")


@pytest.mark.parametrize("template", ESCAPES)
def test_p1_a_template_reaches_nothing(template_process: TemplateProcess, template: str) -> None:
    """Refused, or rendered as nothing."""
    found: Any = ""
    try:
        found = template_process.render(template, ROWS, None, {}, longest_s=10.0)
    except TemplateFaultError as error:
        found = error
    assert not any(leak in str(found) for leak in LEAKS), found
    assert template_process.render("{{ messages[0].content }}", ROWS, None, {}, longest_s=10.0) == "hi"
