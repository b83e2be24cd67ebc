"""Compiles the engine's CPU kernels (`app/hugging_llama/engine/native/src`) when a wheel or editable install is made.

They are optional: without a C compiler, or on another processor than x86-64, the install goes through without them
and the engine runs on torch's operators. `python hatch_build.py` compiles alone, into the source tree.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
NATIVE = ROOT / "app" / "hugging_llama" / "engine" / "native"
LIBRARY = NATIVE / "kernels.so"
# no -march: functions name the instructions they use, and the loader asks the processor; no fast-math: NaN counts
FLAGS = (
    "-std=c11",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-pthread",
)


class NativeKernels(BuildHookInterface[Any]):
    """Hatchling's hook: adds the library to the wheel, which is then one for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is made; `version` is "standard" or "editable"."""
        problem = compile_kernels()
        if problem:
            self.app.display_warning(f"without native kernels, the engine will use torch's: {problem}")
            return
        build_data["artifacts"].append(f"/{LIBRARY.relative_to(ROOT)}")
        build_data["pure_python"] = False
        # it calls nothing of Python, so one library serves all versions
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_kernels(flags: tuple[str, ...] = FLAGS, library: Path = LIBRARY) -> str:
    """Makes `library` anew. Returns why there is none, or ""."""
    problem = _compile(flags, library)
    if problem:
        # an old one would not be what these sources say
        library.unlink(missing_ok=True)
    return problem


def _compile(flags: tuple[str, ...], library: Path) -> str:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "they are for Linux on x86-64"
    compiler = (
        shlex.split(os.environ.get("CC", "")) or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    )
    if not compiler:
        return "there is no C compiler"
    try:
        with tempfile.TemporaryDirectory() as objects, ThreadPoolExecutor(os.cpu_count()) as pool:
            commands = [
                [*compiler, *flags, "-c", "-o", os.path.join(objects, f"{source.stem}.o"), str(source)]
                for source in sorted((NATIVE / "src").glob("*.c"))
            ]
            problem = next(filter(None, pool.map(_run, commands)), "")
            return problem or _link(compiler, flags, [command[-2] for command in commands], library)
    except OSError as error:
        return f"{compiler[0]} failed: {error}"


def _link(compiler: list[str], flags: tuple[str, ...], objects: list[str], library: Path) -> str:
    # a process that has the old library open keeps it; one that starts meanwhile never sees half of the new one
    unfinished = library.with_suffix(f".{os.getpid()}")
    try:
        problem = _run([*compiler, *flags, "-shared", "-o", str(unfinished), *objects, "-lm"])
        if not problem:
            unfinished.replace(library)
        return problem
    finally:
        unfinished.unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return f"{command[0]} failed:\n{done.stderr[-2000:]}" if done.returncode else ""


if __name__ == "__main__":
    sys.exit(compile_kernels() or 0)
