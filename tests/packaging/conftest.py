"""What is built once for all tests of packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "wsgi.py", "constraints.txt", ".gitignore")


def build(tree: Path, target: str, **environ: str) -> Path:
    """Runs hatchling; returns what it made."""
    shutil.rmtree(tree / "dist", ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    subprocess.run(command, cwd=tree, env={**os.environ, **environ}, capture_output=True, timeout=900, check=True)
    return next(path for path in (tree / "dist").iterdir() if path.suffix in (".whl", ".gz"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, without the compiled library."""
    copy = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "kernels.so")
    for folder in ("app", "cli", "config", "deploy"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as this machine makes it, with the kernels if it has a compiler."""
    made = build(tree, "wheel")
    return Path(shutil.move(made, tmp_path_factory.mktemp("wheel") / made.name))
