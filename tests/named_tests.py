"""Tables of documents whose rows name the tests that hold them."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECURITY = ROOT / "SECURITY.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def table_of(document: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """File and name of the tests of each row, by its first cell. Raises ValueError if a row is there twice."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for line in document.read_text().splitlines():
        if not line.startswith("| ") or not (tests := tuple(_TEST.findall(line))):
            continue
        row = line.strip("| ").split(" | ")[0]
        if row in found:
            raise ValueError(f"the row {row} stands there twice")
        found[row] = tests
    return found


def names_in(path: str) -> set[str]:
    """The names of the tests in a file of this repository."""
    return {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}


def missing_tests(document: Path) -> list[str]:
    """What the rows of `document` name and nobody has written."""
    return [
        f"{row}: {path}::{name}"
        for row, tests in table_of(document).items()
        for path, name in tests
        if not (ROOT / path).exists() or name not in names_in(path)
    ]
