"""Rows S12, P2 and P3: what the source may not do, wherever it is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for root in ("app", "cli", "config") for path in (ROOT / root).rglob("*.py"))
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in SOURCES}

BANNED_MODULES = re.compile(
    r"(pickle|_pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve|xmlrpc|multiprocessing|pty|telnetlib|ftplib"
    r"|kernels|yaml|zipfile|tarfile|PIL)(\..*)?"
)
BANNED_CALLS = re.compile(
    r"yaml\.(?!safe_|YAMLError).*|eval|exec|compile|__import__|os\.(system|popen|exec[lv]p?e?|spawn\w+)|torch\.load|numpy\.load|np\.load"
    r"|torch\.hub\..*|tempfile\.mktemp|ssl\._create_unverified_context|shutil\.unpack_archive"
)
ALLOWED_MODULES = {
    (
        "app/hugging_llama/engine/conversion_pickle.py",
        "zipfile",
    ),  # lists what a checkpoint holds, in a process with limits
    ("cli/hugging_llama_cli/user_files.py", "yaml"),  # the user's own configuration; safe_load alone
}
ALLOWED_CALLS = {
    ("app/hugging_llama/engine/conversion_pickle.py", "torch.load"),  # of weights only, where the operator allows it
    ("cli/hugging_llama_cli/commands/serve.py", "os.execve"),  # becomes gunicorn, with arguments of its own
}
LATE_TYPES = re.compile(r"msgspec\.(convert|(json|msgpack)\.decode)")
DISK = re.compile(
    r"os\.(unlink|remove|rename|renames|replace|rmdir|removedirs|link|symlink|mkdir|makedirs|truncate|chmod|chown)"
    r"|shutil\.(rmtree|move|copy\w*)|.*\.(unlink|rmdir|write_text|write_bytes|symlink_to|hardlink_to|mkdir|rename)"
)
MAY_CHANGE_FILES = re.compile(
    r"app/hugging_llama/store/.*"  # models, uploads, kept answers
    r"|config/hugging_llama_config/(launch|gunicorn|metrics_files)\.py"  # the folder of sockets and metrics
    r"|config/hugging_llama_config/(keys_file|private_file)\.py"  # the file of keys, and how it is replaced
    r"|app/hugging_llama/web/limits\.py"  # what a key has left, in the folder of sockets
    r"|cli/.*"  # the user's own files, by the user
    r"|app/hugging_llama/engine/(conversion\w*|server)\.py"  # into a folder that the store has made; its own socket
    r"|app/hugging_llama/client/(supervisor|remote|connection)\.py"
)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    return ((_name(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def test_p3_nothing_is_unpickled_or_run() -> None:
    modules = {
        (path, name) for path, tree in TREES.items() for name in _modules(tree) if BANNED_MODULES.fullmatch(name)
    }
    calls = {(path, name) for path, tree in TREES.items() for name, _ in _calls(tree) if BANNED_CALLS.fullmatch(name)}
    assert (modules, calls) == (ALLOWED_MODULES, ALLOWED_CALLS)


def _offence(path: str, keyword: ast.keyword) -> bool:
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
    if keyword.arg == "trust_remote_code":
        return path.startswith("app/hugging_llama/engine/") and value is not False
    if keyword.arg == "shell":
        return value is not False
    return keyword.arg in ("weights_only", "verify") and value is not True


def test_p2_code_of_a_model_is_never_trusted() -> None:
    keywords = [
        (path, call.lineno, keyword)
        for path, tree in TREES.items()
        for _, call in _calls(tree)
        for keyword in call.keywords
    ]
    assert sum(keyword.arg == "trust_remote_code" for _, _, keyword in keywords) >= 5
    assert [(path, line) for path, line, keyword in keywords if _offence(path, keyword)] == []
    for tree in TREES.values():
        for name, call in _calls(tree):
            assert name != "torch.load" or "weights_only" in {keyword.arg for keyword in call.keywords}


def test_s12_files_are_changed_in_few_places() -> None:
    found = {(path, name) for path, tree in TREES.items() for name, _ in _calls(tree) if DISK.fullmatch(name)}
    assert len(found) > 20
    assert {(path, name) for path, name in found if not MAY_CHANGE_FILES.fullmatch(path)} == set()


def test_types_are_looked_at_before_there_are_threads() -> None:
    """A decoder of a module learns its types when it is made; a call that is given a type, when it is first used:
    two threads there crash the process."""
    found = [(path, call.lineno) for path, tree in TREES.items() for call in _late_types(tree)]
    assert found == []


def _late_types(tree: ast.AST) -> Iterator[ast.Call]:
    return (
        call
        for name, call in _calls(tree)
        if LATE_TYPES.fullmatch(name) and (len(call.args) > 1 or any(word.arg == "type" for word in call.keywords))
    )


def test_the_rules_find_what_they_look_for() -> None:
    bad = ast.parse("import pickle\nfrom torch import load\neval('1')\nos.system('x')\nos.unlink(path)\nx.y.unlink()")
    assert [name for name in _modules(bad) if BANNED_MODULES.fullmatch(name)] == ["pickle"]
    assert [name for name, _ in _calls(bad) if BANNED_CALLS.fullmatch(name)] == ["eval", "os.system"]
    assert [name for name, _ in _calls(bad) if DISK.fullmatch(name)] == ["os.unlink", "x.y.unlink"]
    late = ast.parse("msgspec.convert(a, B)\nmsgspec.json.decode(a, type=B)\nmsgspec.json.decode(a)")
    assert len(list(_late_types(late))) == 2
