"""A pull in a process patched by gevent: the other greenlets hardly notice."""

import json
import subprocess
import sys
import textwrap

import pytest

from tests.hub_server import Allowance, Repo
from tests.store import models
from tests.store.conftest import Workplace

UNDER_GEVENT = """
    import gevent.monkey
    import time
    real_sleep = time.sleep
    gevent.monkey.patch_all({patches})
    import json, sys, gevent
    from hugging_llama.store.local import Store
    from hugging_llama.store.pull_stream import pull
    from hugging_llama_config.settings import Settings

    settings = Settings(hub_cache={cache!r}, hub_endpoint={endpoint!r})
    beats = 0
    def beat():  # a real thread, so that a machine that stands still is not taken for a process that is blocked
        global beats
        while True:
            real_sleep(0.005)
            beats += 1
    gevent.monkey.get_original("_thread", "start_new_thread")(beat, ())
    arriving, worst = set(), 0
    def tick():
        global worst
        ticks = 0
        while True:
            before = beats
            gevent.sleep(0.005)
            worst = max(worst, beats - before)
            ticks += len(arriving) == 2
            if ticks == 20:
                print("go", flush=True)  # the rest of the file comes when others were served meanwhile
    ticker = gevent.spawn(tick)
    def run(number):
        for progress in pull(settings, Store(settings), "acme/tiny"):
            if progress.file == "model.safetensors":
                arriving.add(number)
        return progress.status
    jobs = [gevent.spawn(run, number) for number in range(2)]
    gevent.joinall(jobs)
    stream = pull(settings, Store(settings), "acme/tiny")
    next(stream), next(stream)
    gevent.spawn_later(0.05, stream.close)
    list(stream)
    print(json.dumps(dict(results=[job.value for job in jobs], worst=worst)))
"""


@pytest.mark.parametrize("patches", ["", "subprocess=False, signal=False, os=False"])
def test_under_gevent_others_are_served_meanwhile(work: Workplace, patches: str) -> None:
    tiny = work.hub.repos["acme/tiny"] = Repo(models.chat_model(20_000_000))
    allowance = Allowance(1_000_000)
    work.hub.fault("/_cdn/", "held", allowance)
    code = UNDER_GEVENT.format(patches=patches, cache=str(work.cache), endpoint=work.hub.endpoint)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        allowance.raise_to()
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads(out)
    assert result["results"] == ["success", "success"]
    assert result["worst"] < 200  # beats of five milliseconds and more: a second in which nobody else was served
    assert work.hub.sent() == len(tiny.files["model.safetensors"])
