"""The compiled kernels in wheels: there where a compiler is, and no obstacle where there is none."""

import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import build

LIBRARY = "hugging_llama/engine/native/kernels.so"


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_working_compiler_the_wheel_is_one_for_every_platform(tree: Path, compiler: str) -> None:
    wheel = build(tree, "wheel", CC=compiler)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("cc"), reason="no C compiler"
)
def test_with_a_compiler_the_wheel_holds_the_library_and_names_the_platform(tree: Path, wheel: Path) -> None:
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
