"""The compiled kernels in wheels: there where a compiler is, and no obstacle where there is none."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = "hugging_llama/engine/native/kernels.so"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, without the compiled library."""
    copy = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "kernels.so")
    for folder in ("app", "cli", "config", "deploy"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "wsgi.py",
        "constraints.txt",
        ".gitignore",
    ):
        shutil.copy(ROOT / name, copy / name)
    return copy


def build(tree: Path, target: str, **environ: str) -> Path:
    """Runs hatchling; returns what it made."""
    shutil.rmtree(tree / "dist", ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    subprocess.run(command, cwd=tree, env={**os.environ, **environ}, capture_output=True, timeout=900, check=True)
    return next(path for path in (tree / "dist").iterdir() if path.suffix in (".whl", ".gz"))


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_working_compiler_the_wheel_is_one_for_every_platform(tree: Path, compiler: str) -> None:
    wheel = build(tree, "wheel", CC=compiler)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("gcc"), reason="no C compiler"
)
def test_with_a_compiler_the_wheel_holds_the_library_and_names_the_platform(tree: Path) -> None:
    wheel = build(tree, "wheel", CC="gcc")
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert LIBRARY in names
    assert not [name for name in names if name.endswith((".c", ".h"))]
    # a compiler that is gone again leaves no library of other sources behind
    assert LIBRARY not in zipfile.ZipFile(build(tree, "wheel", CC="false")).namelist()


def test_the_source_archive_holds_the_sources_and_no_binary(tree: Path) -> None:
    (tree / "app" / LIBRARY).write_bytes(b"compiled earlier")
    with tarfile.open(build(tree, "sdist")) as archive:
        tops = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"hatch_build.py", "app/hugging_llama/engine/native/src/linear_int4.c"} <= tops
    assert f"app/{LIBRARY}" not in tops
