"""The example of an application that mounts us: its own tests, in a process and a folder of their own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]

EXAMPLE = Path(__file__).parents[2] / "examples" / "existing_app"


def end_engines(folder: str) -> None:
    """Those that were started below the folder: they would wait some time for another client."""
    for process in psutil.process_iter(["cmdline"]):
        if any(argument.startswith(f"{folder}/") for argument in process.info["cmdline"] or []):
            process.kill()


def test_its_own_tests_pass() -> None:
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HF_", "HUGGING_"))
        }
        environ |= {"TMPDIR": folder, "HOME": folder}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "tests"]
        try:
            done = subprocess.run(command, cwd=EXAMPLE, env=environ, capture_output=True, text=True, timeout=1200)
        finally:
            end_engines(folder)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_is_mounted_in_less_than_ten_lines() -> None:
    lines = (EXAMPLE / "app" / "assistant.py").read_text().splitlines()
    code = [line for line in lines if line and not line.startswith(('"""', "from ", "import "))]
    assert len(code) < 10
