"""One of several servers over the same models: `python -m tests.functional.library_racer DIR HUB SEED THREADS ROUNDS`.

Its threads copy, delete, create, pull, show, list and use a few names at random. Prints what went wrong as JSON: every
answer that is neither a success nor the caller's fault.
"""

import json
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from hugging_llama import create_app
from hugging_llama.errors import HuggingLlamaError
from hugging_llama.store import local
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.names import parse_name
from hugging_llama.store.pull import PullRequest, pull_files
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings

HUB_NAMES = ("acme/a", "acme/b")
NAMES = ("mine", "Other:v1", "team/x", *HUB_NAMES)
DEMO = "hugging-llama/demo"


def race_settings(folder: Path, hub: str) -> Settings:
    """Of every server in the race."""
    return Settings(home=str(folder / "home"), hub_cache=str(folder / "hub"), hub_endpoint=hub, hub_token="")


class Racer:
    """The threads of one server. `wrong` holds what must not happen, `seen` how often which status came."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._app = create_app(settings, engine=ScriptedEngine())
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()

    def run(self, threads: int, rounds: int) -> None:
        running = [threading.Thread(target=self._race, args=(number, rounds)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def _race(self, number: int, rounds: int) -> None:
        dice = random.Random(f"{self._seed}/{number}")
        client = self._app.test_client()
        for _ in range(rounds):
            try:
                self._step(client, dice)
            except Exception as error:
                self.wrong.append(repr(error))

    def _step(self, client: FlaskClient, dice: random.Random) -> None:
        name, other = dice.choice(NAMES), dice.choice((*NAMES, DEMO))
        what = dice.choice(("copy", "copy", "delete", "delete", "create", "show", "tags", "generate", "pull", "pull"))
        if what == "pull":
            self._pull(dice.choice(HUB_NAMES))
            return
        if what == "tags":
            response = client.get("/api/tags")
        elif what == "delete":
            response = client.delete("/api/delete", json={"model": name})
        else:
            bodies: dict[str, Any] = {
                "copy": {"source": other, "destination": name},
                "create": {"model": name, "from": other, "system": f"{dice.random()}", "stream": False},
                "show": {"model": name},
                "generate": {"model": name, "prompt": "x", "stream": False},
            }
            response = client.post(f"/api/{what}", json=bodies[what])
        self.seen[f"{what} {response.status_code}"] += 1
        if response.status_code not in (200, 400, 404):
            self.wrong.append(f"{what}: {response.status_code} {response.text}")

    def _pull(self, name: str) -> None:
        access = HubAccess(endpoint=self._settings.hub_endpoint, token="")
        try:
            list(pull_files(PullRequest(name=parse_name(name), cache=self._settings.hub_cache, access=access)))
            self.seen["pull done"] += 1
        except HuggingLlamaError as error:
            self.wrong.append(f"pull: {error!r}")


if __name__ == "__main__":
    local._LOCK_TIMEOUT_S = 300.0  # twenty in a row on a slow disk are nobody's fault
    folder, hub, seed, threads, rounds = sys.argv[1:]
    racer = Racer(race_settings(Path(folder), hub), int(seed))
    racer.run(int(threads), int(rounds))
    print(json.dumps({"wrong": racer.wrong, "seen": racer.seen}))
