"""Durations are measured with a clock that nobody can set. A jump of the wall clock must change nothing but what is
said of it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("app", "cli", "config") for path in (ROOT / room).rglob("*.py"))
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now", "time.localtime"}
# moments that are told to callers or compared with those of files and rows; never the length of a wait
ALLOWED = {
    "app/hugging_llama/dialects/ollama/clock.py": "created_at and expires_at",
    "app/hugging_llama/dialects/openai/classify.py": "created",
    "app/hugging_llama/dialects/openai/render.py": "created",
    "app/hugging_llama/dialects/openai/responses/response.py": "created_at and completed_at",
    "app/hugging_llama/dialects/request_facts.py": "when a request came, for its trace",
    "app/hugging_llama/engine/engine.py": "expires_at of ps, from a monotonic remainder",
    "app/hugging_llama/engine/status.py": "when the engine began, for Prometheus",
    "app/hugging_llama/operations/audit_log.py": "when a thing was done",
    "app/hugging_llama/store/manifests.py": "modified_at",
    "app/hugging_llama/store/responses.py": "the age of rows, which outlive the machine's uptime",
    "app/hugging_llama/store/conversion_folder.py": "the age of folders",
    "app/hugging_llama/store/facts.py": "time stamps of files",
    "app/hugging_llama/store/places.py": "time stamps of files",
    "app/hugging_llama/store/pruning.py": "the age of files",
    "app/hugging_llama/store/blobs.py": "the age of files",
    "cli/hugging_llama_cli/commands/keys.py": "ages for readers",
    "cli/hugging_llama_cli/render.py": "ages for readers",
    "cli/hugging_llama_cli/sessions.py": "when a chat was kept",
    "config/hugging_llama_config/keys.py": "when a key was made",
}


def reads_of_the_wall_clock(source: str) -> list[int]:
    """Lines that name such a clock, called at once or handed on."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL
    ]


def imports_of_the_wall_clock(source: str) -> list[int]:
    """Lines that import it under a name that would hide it."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and node.module == "time"
        and {alias.name for alias in node.names} & {"time", "time_ns", "localtime"}
    ]


def test_the_wall_clock_is_read_where_a_moment_is_told_and_nowhere_else() -> None:
    found = {str(path.relative_to(ROOT)) for path in SOURCES if reads_of_the_wall_clock(path.read_text())}
    assert found == set(ALLOWED)
    assert not [path for path in SOURCES if imports_of_the_wall_clock(path.read_text())]


@pytest.mark.parametrize("source", ["import time\nx = time.time()", "import time\nf(clock=time.time)"])
def test_the_search_finds_it(source: str) -> None:
    assert reads_of_the_wall_clock(source) == [2]


def test_the_search_finds_it_under_another_name() -> None:
    assert imports_of_the_wall_clock("from time import time as now") == [1]
