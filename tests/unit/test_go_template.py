"""Go templates in Jinja: what transformers' own renderer makes of them is what Go made."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.engine.chat_messages import template_messages, template_tools, template_variables
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool
from tests.unit.go_templates.chats import CHATS, TOOLS

_FOLDER = Path(__file__).parent / "go_templates"
_EXPECTED: dict[str, dict[str, str]] = json.loads((_FOLDER / "expected.json").read_text())


def render(template: str, *messages: Message, tools: tuple[Tool, ...] = (), **variables: Any) -> str:
    renderer: Any = render_jinja_template
    texts, _ = renderer(
        conversations=[template_messages(messages)],
        tools=template_tools(tools) or None,
        chat_template=template,
        add_generation_prompt=True,
        **variables,
    )
    return str(texts[0])


def written(source: str, *messages: Message, **options: Any) -> str:
    return render(to_jinja(source), *(messages or (user("Hi"),)), **options)


def user(text: str) -> Message:
    return Message(role="user", content=text)


@pytest.mark.parametrize("name", sorted(_EXPECTED))
def test_families_are_written_as_by_go(name: str) -> None:
    jinja = to_jinja((_FOLDER / f"{name}.tmpl").read_text())
    for case, expected in _EXPECTED[name].items():
        before = date.today()
        if case == "insert":
            found = render(jinja, user("def f("), prompt="def f(", suffix="return 1")
        else:
            chat, tools, think = case.split(", ")
            variables = template_variables(json.loads(think))
            found = render(jinja, *CHATS[chat], tools=TOOLS if tools == "tools" else (), **variables)
        days = {before, date.today()}
        assert found in {expected.replace("<today>", day.isoformat()) for day in days}, case


def test_every_template_is_expected() -> None:
    assert {path.stem for path in _FOLDER.glob("*.tmpl")} == _EXPECTED.keys()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ .Prompt }}", "Hi"),
        ("a {{- .Prompt -}} \n b", "aHib"),
        ("a {{.Prompt}} b{{/* said */}} {{- /* and\nmore */ -}} c", "a Hi bc"),
        ("{{ .Prompt }}{{ .Response }} never seen", "Hi"),
        (r"""{{ print "q\"\\\n\tA" `raw\n` }}{{ .Prompt }}""", 'q"\\\n\tAraw\\nHi'),
        ("{{ .Prompt | printf \"%s-%s\" \"a\" }}", "a-Hi"),
        ("{{ printf \"%d%% %v\" 5 true }}{{ .Prompt }}", "5% trueHi"),
        ("{{ print 1 2 \"x\" 3 }}{{ .Prompt }}", "1 2x3Hi"),
        ("{{ len \"é\" }}{{ slice .Prompt 1 }}{{ slice \"abc\" 0 2 }}", "2iab"),
        ("{{ if and .Prompt (not .System) (or false true) }}y{{ else }}n{{ end }}{{ .Prompt }}", "yHi"),
        ("{{ if eq .Prompt \"a\" \"Hi\" }}y{{ end }}{{ .Prompt }}", "yHi"),
        ("{{ if .System }}s{{ else if .Prompt }}p{{ else }}n{{ end }}{{ .Prompt }}", "pHi"),
        ("{{ with .System }}{{ . }}{{ else }}no{{ end }}{{ with $x := .Prompt }}{{ $x }}{{ . }}{{ end }}", "noHiHi"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}{{ .Prompt }}", "21Hi"),
        ("{{ $x := 1 }}{{ range .Messages }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ (index $.Messages $i).Content }}{{ end }}", "0Hi"),
        ("{{ range .Messages }}{{ break }}{{ end }}{{ range .Tools }}t{{ else }}none{{ end }}", "none"),
        ("{{ range .Messages }}{{ break }}{{ else }}none{{ end }}", ""),
        ("{{ .Messages | len }}{{ (index .Messages 0).Role | json }}", '1"user"'),
        ("{{ range .Messages }}{{ .Images }}{{ json .Images }}{{ .ToolName }}{{ end }}", "[]null"),
        ("{% is kept {{ .Prompt }} '\\' {{ \"}}\" }}", "{% is kept Hi '\\' }}"),
    ],
)  # fmt: skip
def test_pieces_of_the_language(source: str, text: str) -> None:
    assert written(source) == text


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{{ .Prompt", "line 1: an action is not closed"),
        ("a\n{{ if .Prompt }}", "line 2: {{ if }} has no {{ end }}"),
        ("{{ .Prompt }}\n{{ end }}", "line 2: unexpected {{ end }}"),
        ("{{ .Prompt }}{{ else }}", "line 1: unexpected {{ else }}"),
        ("\n\n{{ .First }}", "line 3: a template's data has no field .First here"),
        ("{{ range .Messages }}{{ .Text }}{{ end }}", "line 1: a message has no field .Text here"),
        ("{{ .Messages }}", "line 1: a list of messages can't be written; name one of its fields"),
        ('{{ define "x" }}{{ end }}', "line 1: {{ define }} is not supported"),
        ('{{ .Prompt }}{{ template "x" . }}', "line 1: {{ template }} is not supported"),
        ("{{ html .Prompt }}", "line 1: the function html is not supported"),
        ("{{ yesterdayDate }}{{ .Prompt }}", "line 1: the function yesterdayDate is not supported"),
        ("{{ eq .Prompt 1 }}", "line 1: eq can't compare a text with a number"),
        ("{{ lt .Think true }}", "line 1: a truth value has no order"),
        ("{{ eq .Prompt }}", "line 1: eq has 1 operands"),
        ("{{ $x }}{{ .Prompt }}", "line 1: the variable $x is not declared"),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}{{ .Prompt }}", "line 1: the variable $x is not declared"),
        ("{{ $x := 1 }}{{ $x = .Prompt }}", "line 1: the variable $x is a number and can't become a text"),
        ("{{ break }}{{ .Prompt }}", "line 1: {{ break }} stands outside of a range"),
        ("{{ range .Prompt }}{{ end }}", "line 1: range goes over lists and maps, not over a text"),
        ("{{ .Prompt | .System }}", "line 1: only a function can follow |"),
        ("{{ .Prompt .System }}", "line 1: a value can't be called like a function"),
        ('{{ printf "%q" .Prompt }}', "line 1: printf can't write a text by %q"),
        ('{{ printf "%s" }}{{ .Prompt }}', "line 1: printf has too few operands"),
        ("{{ .Prompt }}{{ nil }}", "line 1: nil is not supported here"),
        ("{{ .Prompt }}{{ # }}", "line 1: '#' is not expected in an action"),
        ('{{ print "\\q" }}{{ .Prompt }}', "line 1: the escape '\\\\q' is not known"),
        ("{{ if .Prompt }}" * 17 + "{{ end }}" * 17, "line 1: the template is nested too deeply"),
        ("{{ .Prompt }}{{ " + "(" * 4000 + ")" * 4000 + " }}", "the template is nested too deeply"),
        ("x" * 16_385, "a template in Go may have 16384 characters"),
        ("{{ x }}" * 10_000, "a template in Jinja may have 65536 characters"),
        ("{{ messages" + "|tojson" * 9_000 + " }}", "the template is nested too deeply"),
        ("{% if messages %}", "line 1: Unexpected end of template"),
        ("\n{% for m in messages %}{{ m | shout }}{% endfor %}", "line 2: no filter is called 'shout'"),
        ("{% if messages is odious %}{% endif %}", "line 1: no test is called 'odious'"),
        ("{{ messages[ }}", "line 1: "),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(source: str, error: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        to_jinja(source)
    assert caught.value.message.startswith(f"template error: {error}")
    assert caught.value.facts == {"param": "template"}


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{{ messages[0]['content'] }}",
        "{# nothing #}{{ bos_token }}",
        "{%- for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
        "{% generation %}{{ messages[-1].content }}{% endgeneration %}",
        "{% set x = namespace(a=1) %}{{ tools | tojson(indent=2) }}{{ '{{ .Prompt }}' }}",
        # would take all time and memory there is, were it computed
        "{{ messages }}{{ 'a' * 10**15 }}{{ 9**9**9**9 }}",
    ],
)
def test_jinja_is_taken_as_it_is(template: str) -> None:
    assert to_jinja(template) == template


_SYNTAX = (
    "{{", "}}", "{{- ", " -}}", " ", "\n", ".Prompt", ".Messages", ".Role", "$", "$x", ":=", "=", "if", "range", "end",
    "else", "with", "eq", "len", "index", "(", ")", "|", '"', "`", "0", "-1", "{%", "%}", "{#", "break", "json", "é",
)  # fmt: skip
_PIECES = st.sampled_from(_SYNTAX)


@given(st.lists(_PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_a_template_or_refused(source: str) -> None:
    try:
        jinja = to_jinja(source)
    except InvalidRequestError:
        return
    assert to_jinja(jinja) == jinja


@given(st.text(max_size=40), st.text(max_size=40))
@example("{% x {# y #} %}", "'\\' \r\n{")
def test_text_between_actions_stays(before: str, behind: str) -> None:
    before, behind = before.replace("{{", ""), behind.replace("{{", "")
    source = before.rstrip("{") + "{{ .Prompt }}" + behind
    assert written(source) == before.rstrip("{") + "Hi" + behind
