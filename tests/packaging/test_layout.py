"""The rules of the house that a machine can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for root in ("app", "cli", "config") for path in (ROOT / root).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 50
BANNED = re.compile(r"(Manager|Handler|Helper|Service|Utils?|Common|Misc)$")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_documented(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_FILE_LINES
    long = [node.name for node in functions(tree) if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]
    assert long == []
    assert ast.get_docstring(tree), "a module says what it owns"
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and BANNED.search(node.name)]


def test_every_path_that_the_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(
        re.findall(
            r"`((?:app|cli|config|tests|deploy|scripts|tools|benchmarks)/[\w./-]*|[\w-]+\.(?:py|toml|txt))`", text
        )
    )
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_package_of_the_application_is_on_the_map() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    assert [str(package) for package in sorted(packages) if f"`{package}/" not in text] == []


def test_the_runtime_dependencies_are_explained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    table = (ROOT / "CONTRIBUTING.md").read_text()
    names = {re.split(r"[<>=\[]", dependency)[0] for dependency in named}
    assert [name for name in sorted(names) if f"| `{name}` |" not in table] == []
    pinned = {
        line.split("==")[0].lower().replace("-", "_") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert [name for name in sorted(names) if name.lower().replace("-", "_") not in pinned] == []
