"""What each entry point drags in: import-linter sees code, a fresh interpreter sees the truth."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "sentence_transformers", "numpy"}


def modules_after(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter after running `code`."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("from hugging_llama import create_app; create_app()", HEAVY),
        ("import hugging_llama_config.gunicorn", HEAVY | {"flask", "hugging_llama"}),
        ("import hugging_llama", HEAVY | {"flask", "marshmallow", "gevent"}),
        ("import hugging_llama.engine.engine", {"flask", "gevent", "marshmallow", "prometheus_client"}),
    ],
)
def test_an_entry_point_loads_only_its_own_world(code: str, absent: set[str]) -> None:
    assert modules_after(code) & absent == set()


def test_the_public_names_are_there() -> None:
    import hugging_llama

    assert callable(hugging_llama.create_app)
    assert callable(hugging_llama.create_blueprint)
    with pytest.raises(AttributeError):
        _ = hugging_llama.create_something
