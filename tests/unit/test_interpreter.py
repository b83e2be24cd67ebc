"""Which Python our processes are started with."""

import sys
from pathlib import Path

from hugging_llama_config.interpreter import own_python


def test_it_is_the_one_that_runs() -> None:
    assert own_python() == sys.executable


def test_inside_a_server_it_is_that_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("python3", "uwsgi"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    python = str(tmp_path / "bin" / "python3")
    assert own_python(str(tmp_path / "bin" / "uwsgi"), str(tmp_path)) == python
    assert own_python("/usr/bin/python3.11", str(tmp_path)) == python, "whose packages are others"
    assert own_python("/opt/server", "/nowhere") == "/opt/server", "there is no better one"
