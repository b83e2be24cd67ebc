"""A pull in a process patched by gevent: the other greenlets hardly notice."""

import json
import subprocess
import sys
import textwrap

import pytest

from tests.hub_server import Repo
from tests.store import models
from tests.store.conftest import Workplace

UNDER_GEVENT = """
    import gevent.monkey
    gevent.monkey.patch_all({patches})
    import json, sys, time, gevent
    from hugging_llama.store.local import Store
    from hugging_llama.store.pull_stream import pull
    from hugging_llama_config.settings import Settings

    settings = Settings(hub_cache={cache!r}, hub_endpoint={endpoint!r})
    worst, ticks = 0.0, 0
    def tick():
        global worst, ticks
        while True:
            started = time.perf_counter()
            gevent.sleep(0.005)
            worst, ticks = max(worst, time.perf_counter() - started), ticks + 1
    ticker = gevent.spawn(tick)
    def run():
        return list(pull(settings, Store(settings), "acme/tiny"))[-1].status
    jobs = [gevent.spawn(run) for _ in range(2)]
    gevent.joinall(jobs)
    stream = pull(settings, Store(settings), "acme/tiny")
    next(stream), next(stream)
    gevent.spawn_later(0.05, stream.close)
    list(stream)
    print(json.dumps(dict(results=[job.value for job in jobs], worst=worst, ticks=ticks)))
"""


@pytest.mark.parametrize("patches", ["", "subprocess=False, signal=False, os=False"])
def test_under_gevent_others_are_served_meanwhile(work: Workplace, patches: str) -> None:
    tiny = work.hub.repos["acme/tiny"] = Repo(models.chat_model(20_000_000))
    code = UNDER_GEVENT.format(patches=patches, cache=str(work.cache), endpoint=work.hub.endpoint)
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["results"] == ["success", "success"]
    assert result["ticks"] > 20
    assert result["worst"] < 0.5  # on a busy machine; else some milliseconds
    assert work.hub.sent() == len(tiny.files["model.safetensors"])
