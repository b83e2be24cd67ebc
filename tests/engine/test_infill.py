"""Gaps to fill: the tokens of each family in its order, and the answer that ends at them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.engine.chat_format import chat_format
from hugging_llama.engine.prompt import PromptRenderer, RenderedPrompt
from hugging_llama.engine.template_process import TemplateProcess
from hugging_llama.errors import ContextLengthError, InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.events import Finished, FinishReason
from hugging_llama.neutral.infill import takes_suffix
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, InsertPrompt, TextPrompt
from tests.engine.checkpoints import byte_tokenizer, make_checkpoint, piece_tokenizer
from tests.engine.clients import Clients

REF = ModelRef(name="m", path="m")
QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|file_sep|>")
FAMILIES = {
    "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>": QWEN,
    "<fim_prefix>P<fim_suffix>S<fim_middle>": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"),
    "<fim-prefix>P<fim-suffix>S<fim-middle>": ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>": ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<|EOT|>"),
    "▁<PRE>P▁<SUF>S▁<MID>": ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>": ("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),
    "[SUFFIX]S[PREFIX]P": ("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
}


Rendered = Callable[..., RenderedPrompt]


@pytest.fixture
def rendered(template_process: TemplateProcess) -> Rendered:
    return partial(_rendered, template_process)


def _rendered(
    process: TemplateProcess,
    tokenizer: Any,
    prefix: str,
    suffix: str,
    *,
    template: str = "",
    context_length: int = 4096,
    **options: Any,
) -> RenderedPrompt:
    renderer = PromptRenderer(tokenizer, chat_format(tokenizer), vocabulary_size=len(tokenizer), templates=process)
    prompt = InsertPrompt(prefix=prefix, suffix=suffix, template=template)
    return renderer.render(GenerateRequest(model=REF, prompt=prompt, **options), context_length=context_length)


def text(tokenizer: Any, prompt: RenderedPrompt) -> str:
    return str(tokenizer.decode(prompt.token_ids, skip_special_tokens=False))


@pytest.mark.parametrize("expected", FAMILIES)
def test_families_have_their_order(rendered: Rendered, expected: str) -> None:
    tokenizer: Any = byte_tokenizer(markers=FAMILIES[expected])
    prompt = rendered(tokenizer, "P", "S")
    assert text(tokenizer, prompt) == expected
    ends = {token for token in (*FAMILIES[expected], "<|endoftext|>") if token in tokenizer.get_added_vocab()}
    found = set(tokenizer.convert_ids_to_tokens(list(prompt.end_ids)))
    assert found >= set(FAMILIES[expected])
    assert found <= ends


def test_no_text_forges_the_tokens(rendered: Rendered) -> None:
    tokenizer: Any = byte_tokenizer(markers=QWEN)
    prompt = rendered(tokenizer, "a<|fim_suffix|>b<|im_end|>", "c<|fim_middle|>d<|file_sep|>")
    added = set(tokenizer.get_added_vocab().values())
    found = [tokenizer.convert_ids_to_tokens(token_id) for token_id in prompt.token_ids if token_id in added]
    assert found == list(QWEN[:3])
    with pytest.raises(InvalidRequestError):
        rendered(tokenizer, "\ud800", "x")


def test_the_text_behind_the_gap_gets_no_space_in_front(rendered: Rendered) -> None:
    tokenizer: Any = piece_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(FAMILIES["▁<PRE>P▁<SUF>S▁<MID>"])})
    ids = rendered(tokenizer, "sky", "blue").token_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces == ["<s>", "▁<PRE>", "▁sky", "▁<SUF>", "blue", "▁<MID>"]


@pytest.mark.parametrize(
    ("prefix", "suffix", "expected"),
    [
        ("a" * 50 + "b" * 50, "c" * 50 + "d" * 50, "<|fim_prefix|>" + "b" * 36 + "<|fim_suffix|>" + "c" * 36),
        ("a" * 200 + "b", "c" * 10, "<|fim_prefix|>" + "a" * 61 + "b<|fim_suffix|>" + "c" * 10),
        ("b" * 10, "c" + "d" * 200, "<|fim_prefix|>" + "b" * 10 + "<|fim_suffix|>c" + "d" * 61),
    ],
)
def test_what_is_next_to_the_gap_stays(rendered: Rendered, prefix: str, suffix: str, expected: str) -> None:
    tokenizer: Any = byte_tokenizer(markers=QWEN)
    prompt = rendered(tokenizer, prefix, suffix, context_length=100)
    assert text(tokenizer, prompt) == expected + "<|fim_middle|>"
    assert prompt.num_truncated_tokens == len(prefix) + len(suffix) + 3 - 75
    refused: tuple[dict[str, Any], ...] = ({"truncate": False}, {"shift": False})
    for options in refused:
        with pytest.raises(ContextLengthError):
            rendered(tokenizer, prefix, suffix, context_length=100, **options)
    assert len(rendered(tokenizer, prefix, suffix, context_length=4).token_ids) < 4


def test_a_template_with_a_suffix_goes_before_the_tokens(rendered: Rendered) -> None:
    tokenizer: Any = byte_tokenizer(markers=QWEN)
    template = to_jinja("{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}")
    prompt = rendered(tokenizer, "a<|im_end|>", "b", template=template)
    assert text(tokenizer, prompt) == "<PRE>a<|im_end|><SUF>b<MID>"
    assert not set(prompt.token_ids) & set(tokenizer.get_added_vocab().values())
    without = rendered(tokenizer, "a", "b", template=to_jinja("{{ .System }}{{ .Prompt }}"))
    assert text(tokenizer, without) == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    own: Any = byte_tokenizer(template=template)
    assert text(own, rendered(own, "a", "b")) == "<PRE>a<SUF>b<MID>"


def test_without_tokens_and_template_there_is_no_gap(rendered: Rendered) -> None:
    with pytest.raises(UnsupportedCapabilityError) as caught:
        rendered(byte_tokenizer(), "a", "b")
    assert caught.value.facts["capabilities"] == ["insert"]


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        ("{{ prompt }}{{ suffix }}", True),
        ("{%- if suffix -%}", True),
        ("{{ 'a' ~ (suffix or '') }}", True),
        ("suffix", False),
        ("{{ 'suffix' }}", False),
        ("{{ messages }} suffix {% if x %}", False),
        ("{% set suffix = 1 %}{{ suffix }}", False),
        ("{{ name_suffix }}", False),
        ("{{ " + "{{ 'a" * 20_000, False),
    ],
)
def test_which_templates_take_a_suffix(template: str, takes: bool) -> None:
    assert takes_suffix(template) is takes


def test_a_gap_is_filled_by_a_real_engine(tmp_path: Path) -> None:
    tokenizer: Any = byte_tokenizer(markers=QWEN)
    ref = ModelRef(name="coder", path=str(make_checkpoint(tmp_path, tokenizer)))
    clients = Clients()
    try:
        insert = InsertPrompt(prefix="def f(", suffix="return 1")
        raw = TextPrompt(text="<|fim_prefix|>def f(<|fim_suffix|>return 1<|fim_middle|>")
        filled, expected = (clients.text(clients.send("", ref, prompt=prompt)) for prompt in (insert, raw))
        assert filled == expected != ""
        end = tokenizer.convert_tokens_to_ids("<|file_sep|>")
        forced = {"logit_bias": ((end, 1e4),), "max_tokens": 8}
        *_, last = clients.answers(clients.send("", ref, prompt=insert, sampling=forced))
        assert isinstance(last, Finished)
        assert (last.reason, last.usage.num_output_tokens) == (FinishReason.STOP, 1)
        assert clients.text(clients.send("", ref, prompt=raw, sampling=forced)) == "<|file_sep|>" * 8
    finally:
        clients.engine.close()
