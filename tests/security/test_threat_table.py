"""The threat table of SECURITY.md: every row that must be there is, and every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = {*(f"S{n}" for n in range(1, 13)), *(f"P{n}" for n in range(1, 9)), *(f"6{letter}" for letter in "abcde")}
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def _table() -> dict[str, tuple[tuple[str, str], ...]]:
    """The tests of each row."""
    lines = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines]
    found = {row[0]: tuple(TEST.findall(row[3])) for row in rows if row[0] != "row"}
    assert len(found) == len(rows) - 1, "a row stands there twice"
    return found


def _tests(path: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_there() -> None:
    assert ROWS - _table().keys() == set()


def test_every_row_names_tests_that_exist() -> None:
    for row, tests in _table().items():
        assert tests, row
        for path, name in tests:
            assert (ROOT / path).exists(), (row, path)
            assert name in _tests(path), (row, name)


def test_tests_of_a_row_say_so() -> None:
    """A test of this folder whose name begins with a row's is in the table, under that row."""
    for path in sorted((ROOT / "tests" / "security").glob("test_*.py")):
        for name in _tests(str(path.relative_to(ROOT))):
            if row := re.match(r"test_(?:section_)?([sp]\d+|6[a-e])_", name):
                key = row[1].upper() if row[1][0] in "sp" else row[1]
                assert key in _table(), (path, name)
                files = {file for file, _ in _table()[key]}
                assert str(path.relative_to(ROOT)) in files, (key, path, name)
