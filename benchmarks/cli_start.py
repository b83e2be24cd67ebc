"""How long the command line takes to start: commands beside an interpreter that does nothing, in turn.

    python -m benchmarks.cli_start [--rounds 20] [--json FILE]

`--help` and commands that ask a server, which here is a thread that answers at once. Wall times are medians; CPU times
(user and system, of the child) are the least of all rounds, as they hardly depend on what else the machine does.
"""

import argparse
import http.server
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

BARE = "python -c pass"
COMMANDS = {
    BARE: ["-c", "pass"],
    "--help": ["-m", "hugging_llama_cli", "--help"],
    "list": ["-m", "hugging_llama_cli", "list"],
    "ps": ["-m", "hugging_llama_cli", "ps"],
    "run demo hi": ["-m", "hugging_llama_cli", "run", "demo", "hi"],
    "catalog --all": ["-m", "hugging_llama_cli", "catalog", "--all"],
}


class _Answers(http.server.BaseHTTPRequestHandler):
    """What these commands ask for, at once."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # in one piece: else Nagle's algorithm waits for the client's acknowledgement

    def do_GET(self) -> None:
        self._send({"models": [{"name": "hugging-llama/demo:latest", "model": "hugging-llama/demo:latest"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send({"response": "Hello.", "done": True, "done_reason": "stop"})

    def _send(self, value: object) -> None:
        body = json.dumps(value).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(slots=True)
class Times:
    """Of one command, in seconds."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def measure(rounds: int, port: int, home: str) -> dict[str, Times]:
    """Each command once a round."""
    times = {name: Times() for name in COMMANDS}
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    environ = kept | {"HOME": home, "OLLAMA_HOST": f"127.0.0.1:{port}"}
    for number in range(rounds + 1):
        for name, argv in COMMANDS.items():
            before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(
                [sys.executable, *argv], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            took_s, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:  # the first round reads files from the disk
                times[name].wall_s.append(took_s)
                times[name].cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        times = measure(args.rounds, server.server_port, home)
    server.shutdown()
    bare = statistics.median(times[BARE].wall_s)
    rows = {
        name: {
            "wall_ms": round(statistics.median(t.wall_s) * 1000, 1),
            "least_wall_ms": round(min(t.wall_s) * 1000, 1),
            "cpu_ms": round(min(t.cpu_s) * 1000, 1),
            "ratio_to_bare": round(statistics.median(t.wall_s) / bare, 2),
            "own_cpu_ms": round((min(t.cpu_s) - min(times[BARE].cpu_s)) * 1000, 1),
        }
        for name, t in times.items()
    }
    print(f"{'':<16} {'wall ms':>8} {'least':>8} {'CPU ms':>8} {'own CPU':>8} {'x bare':>7}")
    for name, row in rows.items():
        print(
            f"{name:<16} {row['wall_ms']:8.1f} {row['least_wall_ms']:8.1f} {row['cpu_ms']:8.1f} "
            f"{row['own_cpu_ms']:8.1f} {row['ratio_to_bare']:7.2f}"
        )
    if args.json:
        args.json.write_text(
            json.dumps({"rounds": args.rounds, "python": sys.version.split()[0], "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
