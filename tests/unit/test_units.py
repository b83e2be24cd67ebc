"""Durations and sizes."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama_config.units import format_bytes, format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("0m", 0), ("300ms", 0.3), ("1h30m", 5400), ("1.5h", 5400), (".5s", 0.5), ("+2m", 120)],
)
def test_durations_are_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["-1m", "-1ns", "-10h", "2562048h", "9" * 40 + "s"])
def test_a_duration_that_is_negative_or_longer_than_gos_is_for_ever(text: str) -> None:
    assert math.isinf(parse_duration(text))


def test_the_longest_duration_is_none_for_ever() -> None:
    assert parse_duration("2562047h") == 2562047 * 3600


@pytest.mark.parametrize("text", ["1" * 1_000_000, "1" * 1_000_000 + "x", "1." * 500_000, "1s" * 500_000])
@pytest.mark.parametrize("parse", [parse_duration, parse_size])
def test_a_long_text_is_refused_without_being_read(text: str, parse: Callable[[str], float]) -> None:
    # reading the first of these with a pattern that backtracks took hours
    with pytest.raises(ValueError, match="1"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
        ("1h-5m", 'time: unknown unit "h-" in duration "1h-5m"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("-5 m", 'time: unknown unit " m" in duration "-5 m"'),
        ("1h.m", 'time: invalid duration "1h.m"'),
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("--0", 'time: invalid duration "--0"'),
        ("٣s", 'time: invalid duration "٣s"'),
        ("1" * 64 + "s", f'time: invalid duration "{"1" * 64}…"'),
    ],
)
def test_bad_durations_are_refused_in_gos_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="time:") as caught:
        parse_duration(text)
    assert str(caught.value) == message


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(4_700_000_000, "4.7 GB"), (42_000_000_000, "42 GB"), (274_301_056, "274 MB"), (12, "12 B")]
)
def test_sizes_read_as_ollama_prints_them(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("24GB", 24 * 10**9), ("512MiB", 2**29), ("1.5 g", 15 * 10**8), ("7", 7)]
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


def test_a_bad_size_says_what_to_write() -> None:
    with pytest.raises(ValueError, match="24GB"):
        parse_size("lots")


def test_durations_are_printed_as_go_does() -> None:
    assert [format_duration(s) for s in (0.012, 1.5, 75, 3723, math.inf)] == [
        "12ms",
        "1.5s",
        "1m15s",
        "1h2m3s",
        "forever",
    ]
