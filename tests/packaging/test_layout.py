"""The rules of the house that a machine can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for root in ("app", "cli", "config") for path in (ROOT / root).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 50
BANNED = re.compile(r"(Manager|Handler|Helper|Service|Utils?|Common|Misc)$")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def offences(path: Path) -> Iterator[str]:
    """What the file `path` does against the rules."""
    text = path.read_text()
    tree = ast.parse(text)
    if text.count("\n") > MAX_FILE_LINES:
        yield f"{path}: too long"
    if not ast.get_docstring(tree):
        yield f"{path}: does not say what it owns"
    for function in functions(tree):
        if (function.end_lineno or 0) - function.lineno >= MAX_FUNCTION_LINES:
            yield f"{path}: {function.name} is too long"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and BANNED.search(node.name):
            yield f"{path}: {node.name} says nothing"


def test_files_and_functions_stay_small_and_documented() -> None:
    assert len(SOURCES) > 50
    assert [offence for path in SOURCES for offence in offences(path)] == []


def is_there(path: str) -> bool:
    """A path from the root, or the name of a file somewhere in the sources."""
    return (ROOT / path).exists() or ("/" not in path and any((ROOT / "config").rglob(path)))


def test_every_path_that_the_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(
        re.findall(
            r"`((?:app|cli|config|tests|deploy|scripts|tools|benchmarks)/[\w./-]*|[\w-]+\.(?:py|toml|txt))`", text
        )
    )
    assert len(named) > 30
    assert [path for path in sorted(named) if not is_there(path)] == []


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
