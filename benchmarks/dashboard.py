"""Draws what the Grafana dashboard would show: its own panels and expressions, asked of a real Prometheus under load.

    python -m benchmarks.dashboard --minutes 8 --output docs/images/dashboard.png

Starts a server with the demo model, a Prometheus (`apt-get install prometheus`) that scrapes it every two seconds with
a key, and callers that come and go; then matplotlib draws the time series of the panels in
deploy/grafana/dashboards/hugging-llama.json. It is no picture of Grafana.
"""

import argparse
import contextlib
import io
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import requests

matplotlib.use("Agg")
from matplotlib import dates
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# comes with matplotlib
Image: Any = import_module("PIL.Image")

ROOT = Path(__file__).parents[1]
BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "hugging-llama.json"
SCRAPE_S = 2
COLUMNS = 3
MAX_CALLERS = 6
SYSTEM = "You are a helpful assistant who answers briefly, and who never says what was not asked for. "
CONFIG = """
global: {{scrape_interval: {every}s}}
scrape_configs:
  - job_name: hugging-llama
    authorization: {{credentials: {key}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], url: str, environ: dict[str, str] | None = None) -> Iterator[None]:
    """A process until the block ends; the block begins when `url` answers well."""
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(url, timeout=5).ok:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def call(url: str, key: str, rng: random.Random) -> None:
    """One request of one kind or another."""
    model = rng.choice(["demo", "demo", "demo-small"])
    messages = [{"role": "system", "content": SYSTEM * 2}, {"role": "user", "content": f"Tell me {rng.random()}."}]
    words = rng.randint(20, 120)
    chat: dict[str, Any] = {"model": model, "messages": messages}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/api/chat", chat | {"options": {"num_predict": words}}),
        ("/api/generate", {"model": model, "prompt": "Once upon a time", "options": {"num_predict": words}}),
        ("/v1/chat/completions", chat | {"max_tokens": words, "stream": True}),
        ("/v1/messages", {"model": model, "messages": messages[1:], "max_tokens": words}),
    ]
    path, body = rng.choice(kinds)
    chance = rng.random()
    if chance < 0.04:
        body["model"] = "no/such"
    headers = {"Authorization": f"Bearer {key}"}
    with requests.post(url + path, json=body, headers=headers, stream=True, timeout=300) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if chance > 0.95 and number > 5:
                return  # and leave


def press(url: str, keys: list[str], minutes: float) -> None:
    """Callers in two waves."""
    begun, end = time.monotonic(), time.monotonic() + minutes * 60

    def caller(number: int) -> None:
        rng = random.Random(number)
        while (now := time.monotonic()) < end:
            wave = math.sin((now - begun) / (minutes * 60) * 2 * math.pi * 2 - math.pi / 2)
            if number < 1 + (MAX_CALLERS - 1) * (wave + 1) / 2:
                with contextlib.suppress(requests.RequestException):
                    call(url, keys[number % len(keys)], rng)
            time.sleep(rng.random())

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(MAX_CALLERS)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()


def ask(prometheus: str, expression: str, minutes: float) -> list[dict[str, Any]]:
    """The series of an expression over the last minutes."""
    filled = re.sub(r"\$(instance|model)\b", ".*", expression).replace("$__rate_interval", "20s")
    now = time.time()
    query: dict[str, Any] = {"query": filled, "start": now - minutes * 60, "end": now, "step": SCRAPE_S}
    answer = requests.get(f"{prometheus}/api/v1/query_range", params=query, timeout=60).json()
    return list(answer["data"]["result"])


UNITS = {"s": "seconds", "reqps": "per s", "ops": "per s", "tokens/s": "tokens/s", "percentunit": "", "bytes": "MB"}


def draw_panel(axes: Axes, panel: dict[str, Any], prometheus: str, minutes: float) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        for row in ask(prometheus, target["expr"], minutes):
            label = target["legendFormat"]
            for name in re.findall(r"\{\{(\w+)\}\}", label):
                label = label.replace(f"{{{{{name}}}}}", row["metric"].get(name, ""))
            times = [datetime.fromtimestamp(at, UTC) for at, _ in row["values"]]
            values = [float(value) / (1e6 if unit == "bytes" else 1) for _, value in row["values"]]
            axes.plot(times, values, label=label or "all", linewidth=1.3)
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.set_ylabel(UNITS.get(unit, ""), fontsize=7)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(fontsize=6, loc="upper left", framealpha=0.7)


def draw(prometheus: str, minutes: float, output: Path) -> None:
    panels = [panel for panel in json.loads(BOARD.read_text())["panels"] if panel["type"] == "timeseries"]
    rows = math.ceil(len(panels) / COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(13, 2.1 * rows), layout="constrained")
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw_panel(axes, panel, prometheus, minutes)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    output.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=80)
    Image.open(picture).quantize(48).save(output, optimize=True)


def add_keys(environ: dict[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "hugging_llama_cli", "keys", "add"]
    keys = {}
    for name, role in (("laptop", "use"), ("team", "use"), ("keeper", "manage"), ("prometheus", "metrics")):
        done = subprocess.run([*command, name, "--role", role], env=environ, capture_output=True, text=True, check=True)
        found = re.search(r"hl-\S+", done.stdout)
        assert found
        keys[name] = found[0]
    return keys


def main() -> None:
    """Press, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="how long the load takes (default: 8)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "dashboard.png")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        port, scraper = free_port(), free_port()
        url, prometheus = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{scraper}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "HUGGING_"))}
        environ |= {"HOME": folder, "HUGGING_LLAMA_RUN_DIR": f"{folder}/run", "HUGGING_LLAMA_PORT": str(port)}
        keys = add_keys(environ)
        Path(folder, "prometheus.yml").write_text(CONFIG.format(every=SCRAPE_S, key=keys["prometheus"], port=port))
        scrape = [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{scraper}",
        ]  # fmt: skip
        server = [sys.executable, "-m", "hugging_llama_cli", "serve"]
        with running(server, f"{url}/ready", environ), running(scrape, f"{prometheus}/-/ready"):
            made = {"model": "demo-small", "from": "demo", "quantize": "int8", "stream": False}
            requests.post(f"{url}/api/create", json=made, headers={"x-api-key": keys["keeper"]}, timeout=60)
            press(url, [keys["laptop"], keys["team"]], args.minutes)
            time.sleep(2 * SCRAPE_S)
            draw(prometheus, args.minutes, args.output)


if __name__ == "__main__":
    main()
