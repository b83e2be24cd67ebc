"""Where messages of several lines end, and what is kept of them."""

from pathlib import Path

import pytest

from hugging_llama_cli.line_editor import _PrivateHistory
from hugging_llama_cli.quoted import is_open, unquoted


@pytest.mark.parametrize(
    ("text", "goes_on", "inside"),
    [
        ("plain", False, None),
        ('"""', True, ""),
        ('"""a', True, "a"),
        ('  """a\nb', True, "a\nb"),
        ('"""a\nb"""', False, "a\nb"),
        ('"""a"""  ', False, "a"),
        ('""""""', False, ""),
        ('say """a', False, None),
        ('/set system """a', True, None),
        ('/set system """a"""', False, None),
        ('/set parameter """a', False, None),
    ],
)
def test_quotes(text: str, goes_on: bool, inside: str | None) -> None:
    assert (is_open(text), unquoted(text)) == (goes_on, inside)


def test_a_long_history_loses_its_older_half(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = _PrivateHistory(path)
    history.store_string("first\nof two lines")
    with path.open("a") as file:
        for number in range(30_000):
            file.write(f"\n# 2026\n+message {number} of many that were typed\n")
    kept = list(_PrivateHistory(path).load_history_strings())
    assert kept[0] == "message 29999 of many that were typed"
    assert 5_000 < len(kept) < 30_000
    assert all(entry.startswith("message ") for entry in kept)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["history"]


def test_a_home_that_can_not_be_written_to_is_no_failure(tmp_path: Path) -> None:
    history = _PrivateHistory(tmp_path / "no" / "such" / "folder")
    history.store_string("x")
    assert list(history.load_history_strings()) == []
