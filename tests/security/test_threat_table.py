"""The threat table of SECURITY.md: every row that must be there is, and every test that it names exists."""

import re

from tests.named_tests import ROOT, SECURITY, missing_tests, names_in, table_of

ROWS = {*(f"S{n}" for n in range(1, 13)), *(f"P{n}" for n in range(1, 9)), *(f"6{letter}" for letter in "abcde")}


def test_every_row_is_there_and_names_tests() -> None:
    table = table_of(SECURITY)
    assert ROWS - table.keys() == set()
    rows = [line for line in SECURITY.read_text().splitlines() if line.startswith("| ")]
    assert len(table) == len(rows) - 1, "a row without a test"


def test_every_test_exists() -> None:
    assert missing_tests(SECURITY) == []


def test_tests_of_a_row_say_so() -> None:
    """A test of this folder whose name begins with a row's is in the table, under that row."""
    table = table_of(SECURITY)
    for path in sorted((ROOT / "tests" / "security").glob("test_*.py")):
        for name in names_in(str(path.relative_to(ROOT))):
            if row := re.match(r"test_(?:section_)?([sp]\d+|6[a-e])_", name):
                key = row[1].upper() if row[1][0] in "sp" else row[1]
                assert key in table, (path, name)
                files = {file for file, _ in table[key]}
                assert str(path.relative_to(ROOT)) in files, (key, path, name)
