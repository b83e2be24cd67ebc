"""An application with a hook and two mounts of ours under our own gunicorn configuration."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import requests

from tests.live_server import free_port, stop
from tests.process.servers import GUNICORN, HERE, wait_until

WAIT_S = 60.0
COMMAND = [*GUNICORN, "-c", "scripted_gunicorn.py", "mounted_app:app"]


def is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/llm/health", timeout=WAIT_S).status_code == 200
    except requests.RequestException:
        return False


def test_streams_of_all_mounts_get_an_end_when_the_server_stops() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HUGGING_"))}
        environ |= {"HOME": folder, "HUGGING_LLAMA_RUN_DIR": f"{folder}/run", "HUGGING_LLAMA_PORT": str(port)}
        environ |= {"HUGGING_LLAMA_GRACEFUL_TIMEOUT_S": "10", "HUGGING_LLAMA_WORKERS": "1"}
        log = Path(folder, "log")
        with log.open("wb") as sink:
            process = subprocess.Popen(COMMAND, cwd=HERE, env=environ, stdin=subprocess.DEVNULL, stderr=sink)
        try:
            wait_until(lambda: process.poll() is not None or is_up(url))
            body = {"model": "demo", "prompt": "n=5&tick_ms=600000", "raw": True}
            answers = [
                requests.post(f"{url}/{mount}/api/generate", json=body, stream=True, timeout=WAIT_S)
                for mount in ("llm", "second")
            ]
            streams = [answer.iter_lines(chunk_size=1) for answer in answers]
            for lines in streams:
                assert json.loads(next(lines))["response"] == "xxxxx"
            process.terminate()
            for lines in streams:
                assert json.loads(list(lines)[-1])["done"] is True
        except BaseException:
            print(log.read_text()[-6000:])
            raise
        finally:
            stop(process)
