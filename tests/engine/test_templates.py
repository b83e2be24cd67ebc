"""Templates that come with a request: they decide how a chat is written and how its answer is read."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.engine.chat_format import chat_format
from hugging_llama.engine.chat_styles import ChatStyles
from hugging_llama.engine.prompt import PromptRenderer, RenderedPrompt
from hugging_llama.engine.renderers import Renderers
from hugging_llama.engine.template_process import TemplateProcess
from hugging_llama.errors import EngineShutdownError, InvalidRequestError
from hugging_llama.neutral.messages import Message, Tool
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, TextPrompt
from tests.engine.checkpoints import TEMPLATE, byte_tokenizer, make_checkpoint, piece_tokenizer
from tests.engine.clients import Clients
from tests.unit.chat_templates import TEMPLATES

REF = ModelRef(name="m", path="m")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<end_of_turn>")
OTHER = "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}<end_of_turn>{%- endfor -%}"


Rendered = Callable[..., tuple[str, RenderedPrompt]]


@pytest.fixture
def rendered(template_process: TemplateProcess) -> Rendered:
    return partial(_rendered, template_process)


def _rendered(
    process: TemplateProcess, template: str, *contents: str, tokenizer: Any = None, **options: Any
) -> tuple[str, RenderedPrompt]:
    tokenizer = tokenizer or byte_tokenizer(markers=MARKERS)
    renderer = PromptRenderer(
        tokenizer,
        chat_format(tokenizer),
        vocabulary_size=len(tokenizer),
        templates=process,
        longest_rendering_s=options.pop("longest_rendering_s", 10.0),
    )
    messages = tuple(Message(role="user", content=content) for content in contents or ("Hi",))
    context_length = options.pop("context_length", 4096)
    request = GenerateRequest(model=REF, prompt=ChatPrompt(messages=messages, template=template, **options))
    prompt = renderer.render(request, context_length=context_length)
    return str(tokenizer.decode(prompt.token_ids, skip_special_tokens=False)), prompt


def test_another_template_writes_the_chat(rendered: Rendered) -> None:
    tokenizer: Any = byte_tokenizer(markers=MARKERS)
    text, prompt = rendered(OTHER, "a", "b", tokenizer=tokenizer)
    assert text == "<user>a<end_of_turn><user>b<end_of_turn>"
    assert prompt.end_ids == {tokenizer.convert_tokens_to_ids("<end_of_turn>")}
    text, prompt = rendered("", "a", tokenizer=tokenizer)
    assert text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.end_ids == frozenset(), "those of the model's own template are known since its load"


def test_the_answer_is_read_as_the_template_says(rendered: Rendered) -> None:
    tokenizer: Any = byte_tokenizer(markers=MARKERS)
    template = "{{ messages[0].content }}{% if tools %}<tool_call>{% endif %}{{ '<think>' if enable_thinking }}</think>"
    tool = Tool(name="f")
    _, own = rendered("", tokenizer=tokenizer, tools=(tool,))
    assert (own.thinking, own.tool_syntax, own.shown_ids) == (None, None, frozenset())
    _, prompt = rendered(template, tokenizer=tokenizer, tools=(tool,))
    assert prompt.thinking is not None
    assert prompt.tool_syntax is not None
    assert prompt.shown_ids == set(tokenizer.convert_tokens_to_ids(list(MARKERS[:4])))
    text, opened = rendered(template.replace("</think>", "{# </think> #}"), tokenizer=tokenizer)
    assert text == "Hi<think>"
    assert opened.inside_thinking


def test_a_template_may_name_the_prompt_alone(rendered: Rendered) -> None:
    template = "<{{ system }}>{{ prompt }}{% if messages %}{% endif %}"
    assert rendered(template, "a", "b")[0] == "<>b"
    tokenizer: Any = byte_tokenizer(markers=MARKERS)
    _, prompt = rendered("{{ prompt }}", "<|im_end|>", tokenizer=tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in prompt.token_ids, "text stays text"
    turns = "{{ range .Messages }}{{ .Content }}{{ end }}{{ .Prompt }}"
    assert rendered(to_jinja(turns), "a")[0] == "a", "beside messages Ollama has no prompt"


def test_a_go_template_renders_turns_thinking_and_tools(rendered: Rendered) -> None:
    source = (
        "{{ range .Messages }}<{{ .Role }}>{{ .Content }}<end_of_turn>{{ end }}"
        "{{ if and .IsThinkSet .Think }}<think>{{ else }}<think></think>{{ end }}"
    )
    text, prompt = rendered(to_jinja(source), "a")
    assert text == "<user>a<end_of_turn><think>"
    assert prompt.inside_thinking
    text, prompt = rendered(to_jinja(source), "a", think=False)
    assert text == "<user>a<end_of_turn><think></think>"
    assert not prompt.show_thinking


def test_no_text_opens_a_turn_of_another_template(rendered: Rendered) -> None:
    tokenizer: Any = byte_tokenizer(markers=MARKERS)
    _, prompt = rendered(OTHER, "x<end_of_turn><|im_end|>", tokenizer=tokenizer)
    added = set(tokenizer.get_added_vocab().values())
    assert len([token_id for token_id in prompt.token_ids if token_id in added]) == 1


@pytest.mark.parametrize("begin", ["", "{{ bos_token }}", "<s>"])
def test_begin_of_text_comes_once(rendered: Rendered, begin: str) -> None:
    _, prompt = rendered(begin + "{{ messages[0].content }}", "sky", tokenizer=piece_tokenizer())
    assert prompt.token_ids[0] == 1
    assert prompt.token_ids.count(1) == 1


def test_the_models_own_template_given_again_is_its_own(rendered: Rendered) -> None:
    tokenizer: Any = piece_tokenizer()
    tokenizer.chat_template = TEMPLATE
    assert rendered(TEMPLATE, tokenizer=tokenizer) == rendered("", tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('no') }}", "this template refuses these messages: no"),
        ("{{ messages[0].content + 1 }}", "this template can't render these messages"),
        ("{{ 1 // 0 }}", "this template can't render these messages"),
        ("{% for %}", "this template refuses these messages: "),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "this template can't render these messages"),
        ("{% for a in 'x' %}" * 25 + "{% endfor %}" * 25, "this template can't render these messages"),
        ("{{ ''.__class__.__mro__ }}", "this template refuses these messages: "),
        ("{{ messages.append(1) }}", "this template refuses these messages: "),
        ("{{ cycler.__init__.__globals__ }}", "this template refuses these messages: "),
    ],
)
def test_a_template_that_fails_is_an_error_of_the_request(rendered: Rendered, template: str, error: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rendered(template)
    assert caught.value.message.startswith(error)


def test_what_a_template_says_has_an_end(rendered: Rendered) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rendered("{{ raise_exception('x' * 6000000) }}")
    assert len(caught.value.message) < 1100


LOOPS = "".join(f"{{%- for {name} in range(99999) -%}}" for name in "abc") + "{%- endfor -%}" * 3
DOUBLES = "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"


@pytest.mark.parametrize(
    ("template", "error", "longest_s"),
    [
        (LOOPS, "this template takes too long", 0.3),
        ("{{ 9 ** (9 ** 9) }}", "this template takes too long", 0.3),  # one call into C
        ("{{ 'a' * 10**12 }}", "this template takes too much memory", 10.0),
        ("{{ 'a' | center(10**12) }}", "this template takes too much memory", 10.0),
        ("{{ '%999999999999d' % 1 }}", "this template takes too much memory", 10.0),
        (DOUBLES, "this template takes too much memory", 10.0),
    ],
)
def test_no_template_takes_all_time_or_memory(rendered: Rendered, template: str, error: str, longest_s: float) -> None:
    with pytest.raises(InvalidRequestError, match=error):
        rendered(template, longest_rendering_s=longest_s)
    assert rendered("{{ messages[0].content }}", "still there")[0] == "still there"


def test_a_models_own_template_harms_no_other_model(tmp_path: Path) -> None:
    tokenizer: Any = byte_tokenizer(template="{{ 'a' * 10**12 }}")
    bomb = ModelRef(name="bomb", path=str(make_checkpoint(tmp_path, tokenizer)))
    clients = Clients()
    try:
        for _ in range(3):
            ended = clients.send("x", bomb)
            assert clients.text(clients.send("x"))
            with pytest.raises(InvalidRequestError, match="the model's chat template takes too much memory"):
                clients.text(ended)
        raw = clients.send("", bomb, prompt=TextPrompt(text="x"))
        assert clients.text(raw), "what needs no template is served as before"
    finally:
        clients.engine.close()


def test_all_renderings_of_a_request_share_its_time(rendered: Rendered) -> None:
    """A chat that is too long is rendered again and again; each may take long and then fail."""
    slow = "{% for a in range(99999) %}{% for b in range(9) %}{% endfor %}{% endfor %}"
    template = "{% if messages | length < 64 %}" + slow + "{{ raise_exception('no') }}{% endif %}" + OTHER
    with pytest.raises(InvalidRequestError, match="this template takes too long"):
        rendered(template, *["text"] * 64, context_length=64, longest_rendering_s=1.0)


def test_a_template_that_was_ended_makes_its_model_a_slow_one() -> None:
    tokenizer: Any = byte_tokenizer(template="{% if messages[1] %}{{ 'a' * 10**12 }}{% endif %}x")
    renderers = Renderers(tokenizer, format=chat_format(tokenizer), vocabulary_size=len(tokenizer))
    try:
        one, two = (
            GenerateRequest(model=REF, prompt=ChatPrompt(messages=(Message(role="user", content="a"),) * number))
            for number in (1, 2)
        )
        assert renderers.of(one).render(one, context_length=100).token_ids
        assert not renderers.usual.is_slow
        with pytest.raises(InvalidRequestError, match="takes too much memory"):
            renderers.of(two).render(two, context_length=100)
        assert renderers.usual.is_slow
    finally:
        renderers.close()


def test_a_template_that_takes_long_makes_its_model_a_slow_one() -> None:
    count = "{% set n = namespace(value=0) %}{% for _ in range(100000) %}{% set n.value = n.value + 1 %}{% endfor %}"
    tokenizer: Any = byte_tokenizer(
        template="{% if messages[1] %}" + count * 4 + "{{ raise_exception('no') }}{% endif %}x"
    )
    renderers = Renderers(tokenizer, format=chat_format(tokenizer), vocabulary_size=len(tokenizer))
    try:
        slow = []
        for number in (1, 2, 1):
            messages = (Message(role="user", content="a"),) * number
            request = GenerateRequest(model=REF, prompt=ChatPrompt(messages=messages))
            with contextlib.suppress(InvalidRequestError):  # it refuses, after it has taken its time
                renderers.of(request).render(request, context_length=100)
            slow.append(renderers.usual.is_slow)
        assert slow == [False, True, True], "who was slow once may be so again"
    finally:
        renderers.close()


@pytest.mark.parametrize("family", TEMPLATES)
def test_ids_are_those_of_transformers(template_process: TemplateProcess, family: str) -> None:
    turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    # the families' marks decide what is a control token in a message
    template = turns + "{% if false %}" + TEMPLATES[family].text + "{% endif %}"
    tokenizer: Any = byte_tokenizer(template=template, markers=MARKERS)
    renderer = PromptRenderer(
        tokenizer, chat_format(tokenizer), vocabulary_size=len(tokenizer), templates=template_process
    )
    contents = ["plain", "an <|im_end|> and <think>x</think><tool_call>"]
    prompt = ChatPrompt(messages=tuple(Message(role="user", content=content) for content in contents))
    rows = [{"role": "user", "content": content} for content in contents]
    expected = tokenizer.apply_chat_template(
        rows, add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
    )
    assert renderer.render(GenerateRequest(model=REF, prompt=prompt), context_length=4096).token_ids == expected


def test_a_process_that_was_killed_is_replaced() -> None:
    row = [{"role": "user", "content": "a"}]

    def render() -> str:
        return process.render("{{ messages[0].content }}", row, None, {}, longest_s=10.0)

    def workers() -> set[psutil.Process]:
        children = psutil.Process().children()
        return {child for child in children if "hugging_llama.engine.template_worker" in child.cmdline()}

    others = workers()  # of engines that other tests have left to the end
    with contextlib.closing(TemplateProcess()) as process:
        assert render() == "a"
        (child,) = workers() - others
        child.kill()
        psutil.wait_procs([child], timeout=60)
        assert render() == "a"


def test_a_chat_that_is_too_long_is_shortened_by_its_template(rendered: Rendered) -> None:
    text, prompt = rendered(OTHER, *(str(number) * 40 for number in range(9)), context_length=200)
    assert text.startswith("<user>")
    assert text.endswith("<user>" + "8" * 40 + "<end_of_turn>")
    assert prompt.num_truncated_tokens > 0


def test_only_so_many_templates_are_kept() -> None:
    tokenizer: Any = byte_tokenizer()
    styles = ChatStyles(tokenizer, chat_format(tokenizer))
    first = styles.of("{{ 0 }}")
    for number in range(1, 100):
        styles.of(f"{{{{ {number} }}}}")
        assert styles.of("{{ 0 }}") is first, "what is in use stays"
    second = styles.of("{{ 50 }}")
    assert styles.of("{{ 50 }}") is second
    assert len(styles) == 32


def test_a_turn_of_a_real_engine_ends_where_its_template_says(tmp_path: Path) -> None:
    tokenizer: Any = byte_tokenizer(markers=MARKERS)
    ref = ModelRef(name="m", path=str(make_checkpoint(tmp_path, tokenizer)))
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    forced = {"logit_bias": ((end, 1e4),), "max_tokens": 3}
    messages = (Message(role="user", content="Hi"),)
    clients = Clients()
    try:
        own = clients.send("", ref, prompt=ChatPrompt(messages=messages), sampling=forced)
        assert clients.text(own) == "<end_of_turn>" * 3
        other = clients.send("", ref, prompt=ChatPrompt(messages=messages, template=OTHER), sampling=forced)
        assert clients.text(other) == ""
        text = clients.send("", ref, prompt=ChatPrompt(messages=messages, template="{{ messages[0].content }}"))
        raw = clients.send("", ref, prompt=TextPrompt(text="Hi"))
        assert clients.text(text) == clients.text(raw) != ""
    finally:
        clients.engine.close()


def test_a_close_ends_a_rendering() -> None:
    process = TemplateProcess()
    row = [{"role": "user", "content": "a"}]
    with ThreadPoolExecutor(1) as pool:
        rendering = pool.submit(process.render, LOOPS, row, None, {}, longest_s=60.0)
        while not process.is_running:
            assert not rendering.done()
        process.close()
        with pytest.raises(EngineShutdownError):
            rendering.result(timeout=60)
    with pytest.raises(EngineShutdownError):
        process.render("{{ 1 }}", row, None, {}, longest_s=1.0)
