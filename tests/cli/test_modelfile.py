"""The parser of Modelfiles: by the grammar of Ollama's, and on any text."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hugging_llama_cli.errors import CliError
from hugging_llama_cli.modelfile import Instruction, ModelfileError, instructions, parse_modelfile
from hugging_llama_cli.parameters import parse_parameter, typed_parameters

_FULL = '''\
# a comment

from ./model   \n\
  Adapter "./lora"
PARAMETER temperature 0.5
parameter stop "<|im_end|>"
PARAMETER stop two words
TEMPLATE """{{ if .System }}
{{ .System }}  # no comment
{{ end }}"""
SYSTEM Be "brief" and kind.
system """
  Last one.
"""
LICENSE MIT
LICENSE """Apache
2.0"""
MESSAGE user Hello "you"
MESSAGE assistant """Hi
there"""
requires 0.14.0
'''


def test_every_command() -> None:
    parsed = parse_modelfile(_FULL)
    assert parsed.base == Instruction(3, "from", "./model")
    assert parsed.adapter == Instruction(4, "adapter", "./lora")
    assert parsed.parameters == (("temperature", "0.5"), ("stop", "<|im_end|>"), ("stop", "two words"))
    assert parsed.template == "{{ if .System }}\n{{ .System }}  # no comment\n{{ end }}"
    assert parsed.system == "\n  Last one.\n"
    assert parsed.licenses == ("MIT", "Apache\n2.0")
    assert parsed.messages == (("user", 'Hello "you"'), ("assistant", "Hi\nthere"))
    assert parsed.requires == "0.14.0"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SYSTEM one # two", "one # two"),
        ('SYSTEM "one"', "one"),
        ('SYSTEM "say "hi" to"', 'say "hi" to'),
        ('SYSTEM "one\ntwo"', "one\ntwo"),
        ('SYSTEM ""', ""),
        ('SYSTEM """"""', ""),
        ('SYSTEM """a"b""c"""', 'a"b""c'),
        ('SYSTEM """"quoted""""', '"quoted"'),
        ('SYSTEM """one"""   \nFROM x', "one"),
        ("SYSTEM\tone", "one"),
        ("SYSTEM one\\n", "one\\n"),
        ('SYSTEM """a\r\nb"""', "a\nb"),
        ("SYSTEM 'one'", "'one'"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert next(instructions(text)).value == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM line"),
        ("# FROM x\nSYSTEM y", "no FROM line"),
        ("FROM x\n\nFORM y", '(line 3): command must be one of "from", "license", "template", "system", "adapter", '
         '"parameter", "message", or "requires"'),
        ("FROM", "(line 1): FROM has no value"),
        ('FROM ""', "(line 1): FROM has no value"),
        ("FROM x\nPARAMETER", "(line 2): PARAMETER has no value"),
        ("FROM x\nPARAMETER seed", "(line 2): PARAMETER seed has no value"),
        ("FROM x\nMESSAGE tool hi", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ('FROM x\nSYSTEM """never\nclosed', "(line 2): the quotes of this value are never closed"),
        ('FROM x\nSYSTEM "never', "(line 2): the quotes of this value are never closed"),
        ("FROM x\nFROM y", "(line 2): there may be one FROM only"),
        ("FROM x\nADAPTER y\nADAPTER z", "(line 3): there may be one ADAPTER only"),
        ("FROM x\nRENDERER qwen", "(line 2): RENDERER is not supported: prompts are written by"),
        ("FROM x\nparser qwen", "(line 2): PARSER is not supported: thinking and tool calls"),
        ("FROM x\nDRAFT y", "(line 2): DRAFT is not supported: PARAMETER draft_num_predict"),
    ],
)  # fmt: skip
def test_errors(text: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        parse_modelfile(text)
    assert str(caught.value).startswith(message)


@given(st.text(alphabet=st.sampled_from('FROM SYSTEMPARAMETERMESSAGEuser "#\n\r\t\\x\0é'), max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_modelfile(text)
    except CliError:
        return
    assert parsed.base.value.strip()


def _quoted(value: str) -> str:
    return f'"""{value}"""'


def _print(parsed: list[Instruction]) -> str:
    return "".join(
        " ".join(word for word in (each.command.upper(), each.key, _quoted(each.value)) if word) + "\n"
        for each in parsed
    )


# what ends a line with three quotes ends the value, for Ollama, too; all else can be written
_VALUES = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])).filter(
    lambda text: '"""' not in text and (not text.strip() or text.strip(" ") != '"')
)
_KEYS = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
_INSTRUCTIONS = st.one_of(
    st.tuples(st.sampled_from(["license", "template", "system", "requires"]), st.just(""), _VALUES),
    st.tuples(st.sampled_from(["from", "adapter"]), st.just(""), _VALUES.filter(lambda text: bool(text.strip()))),
    st.tuples(st.just("parameter"), _KEYS, _VALUES),
    st.tuples(st.just("message"), st.sampled_from(["system", "user", "assistant"]), _VALUES),
)


@given(st.lists(_INSTRUCTIONS))
@example([("system", "", '"quoted" and more""')])
def test_what_is_printed_is_read_back(found: list[tuple[str, str, str]]) -> None:
    written = [Instruction(0, command, value, key) for command, key, value in found]
    read = [Instruction(0, each.command, each.value, each.key) for each in instructions(_print(written))]
    assert read == written


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1),
        ("temperature", ".5", 0.5),
        ("temperature", "+5.", 5.0),
        ("temperature", "1e-3", 0.001),
        ("seed", "-1", -1),
        ("do_sample", "True", True),
        ("use_cache", "false", False),
        ("early_stopping", "never", "never"),
        ("x", "nan", "nan"),
        ("x", "1_0", "1_0"),
        ("x", "١", "١"),
        ("x", "9" * 5000, "9" * 5000),
        ("x", "[" * 10_000, "[" * 10_000),
        ("x", "null", "null"),
        ("stop", "5", ["5"]),
        ("stop", '["a"]', ['["a"]']),
        ("bad_words", "5", ["5"]),
        ("bad_words", '["a", "b"]', ["a", "b"]),
        ("suppress_tokens", "5", [5]),
        ("suppress_tokens", "[1, 2]", [1, 2]),
        ("bad_words_ids", "[1, 2]", [[1, 2]]),
        ("bad_words_ids", "[[1, 2], [3]]", [[1, 2], [3]]),
        ("logit_bias", '{"5": 1}', {"5": 1}),
    ],
)
def test_values_of_parameters_are_typed(name: str, text: str, value: Any) -> None:
    assert typed_parameters([(name, text)]) == {name: value}


def test_parameters_that_come_again() -> None:
    pairs = [("temperature", "1"), ("stop", "a"), ("temperature", "2"), ("stop", "b"), ("bad_words_ids", "[1]")]
    assert typed_parameters([*pairs, ("bad_words_ids", "[2, 3]")]) == {
        "temperature": 2, "stop": ["a", "b"], "bad_words_ids": [[1], [2, 3]],
    }  # fmt: skip
    assert parse_parameter("stop", ["END", "two words"]) == ["END", "two words"]
    assert parse_parameter("bad_words", ["two", "words"]) == ["two words"]
    assert parse_parameter("temperature", ["0.5"]) == 0.5


def test_the_line_of_an_error_is_counted_over_quoted_lines() -> None:
    with pytest.raises(ModelfileError, match=r"^\(line 5\): "):
        parse_modelfile('FROM x\nSYSTEM """a\nb\n"""\nNOTHING')
