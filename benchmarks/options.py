"""The command line that the scripts have in common."""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.bench_model import make_model
from benchmarks.measure import adopt_orphans

_PATHS = ("cache", "results", "llama_server", "serve_python")


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """With where the weights lie, how often and how wide to measure, and where the peers are."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("bench-cache"), help="where the random weights are kept")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of JSON files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="compute threads of every peer")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast it is")
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's server; left out without it")
    parser.add_argument("--serve-python", type=Path, help="python of a transformers[serving]; left out without it")
    parser.add_argument("--without", nargs="*", default=[], metavar="PEER", help="names of peers to leave out")
    return parser


def settle(arguments: argparse.Namespace) -> Path:
    """Make the paths absolute, the model if need be, and say which peers are missing. Returns the model's snapshot."""
    for name in _PATHS:
        path: Path | None = getattr(arguments, name, None)
        setattr(arguments, name, path.absolute() if path else None)
    if arguments.quick:
        arguments.rounds = 1
    adopt_orphans()
    # for what counts its threads by itself; ours is told by its setting
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    return make_model(arguments.cache)


def kept(arguments: argparse.Namespace) -> dict[str, Any]:
    """What of the arguments belongs into a report: no paths of this machine."""
    return {name: value for name, value in vars(arguments).items() if name not in _PATHS}


def peer_versions(arguments: argparse.Namespace) -> dict[str, str]:
    """What the peers that were given say of themselves; ours stand in the report anyway."""
    versions = {}
    if arguments.llama_server:
        found = subprocess.run([arguments.llama_server, "--version"], capture_output=True, text=True, check=True)
        versions["llama.cpp"] = (found.stdout + found.stderr).strip().splitlines()[0].removeprefix("version: ")
    if arguments.serve_python:
        script = "import transformers, torch; print(transformers.__version__, 'with torch', torch.__version__)"
        found = subprocess.run([arguments.serve_python, "-c", script], capture_output=True, text=True, check=True)
        versions["transformers serve"] = found.stdout.strip()
    return versions
