"""The kernels' pool of threads: who works in it, and that it outlives forks and other callers."""

import subprocess
import sys
import threading

import pytest
import torch

from hugging_llama.engine.native.linear import BFloat16Linear
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels

_START = """
import os
from pathlib import Path
import torch
from hugging_llama.engine.native.linear import BFloat16Linear

def workers():
    return [task for task in Path("/proc/self/task").iterdir() if (task / "comm").read_text() == "kernels\\n"]

torch.manual_seed(0)
torch.set_num_threads(1)
layer, x = BFloat16Linear.pack(torch.randn(300, 128).bfloat16()), torch.randn(40, 128).bfloat16()
alone = layer(x)
"""


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", _START + code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_are_made_when_needed_and_take_no_signals() -> None:
    run_python("""
assert not workers()
torch.set_num_threads(3)
layer(x)
assert len(workers()) == 2
torch.set_num_threads(2)
layer(x)
assert len(workers()) == 2
# SIGKILL and SIGSTOP can't be blocked, and libc keeps two for itself
for task in workers():
    blocked = next(line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) | 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32 == 2**64 - 1
""")


def test_a_forked_child_computes_with_workers_of_its_own() -> None:
    run_python("""
import threading
torch.set_num_threads(2)
layer(x)
stopping = threading.Event()
def keep_busy():
    while not stopping.is_set():
        layer(x)
# some of these forks find the pool in the middle of a loop
busy = threading.Thread(target=keep_busy)
busy.start()
for _ in range(20):
    child = os.fork()
    if not child:
        assert not workers()
        same = torch.equal(layer(x), alone)
        os._exit(0 if same and len(workers()) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
stopping.set()
busy.join()
assert torch.equal(layer(x), alone)
""")


def test_callers_at_the_same_time_get_their_own_results() -> None:
    torch.manual_seed(1)
    x = torch.randn(40, 128).bfloat16()
    layers = [BFloat16Linear.pack(torch.randn(300, 128).bfloat16()) for _ in range(4)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [layer(x) for layer in layers]
        torch.set_num_threads(3)
        wrong: list[int] = []

        def call(i: int) -> None:
            # set by thread in some builds of torch
            torch.set_num_threads(3)
            wrong.extend(i for _ in range(300) if not torch.equal(layers[i](x), alone[i]))

        threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert not wrong


@pytest.mark.parametrize("num_threads", [1, 2, 5, 40])
def test_more_threads_than_cores_or_tasks_change_nothing(num_threads: int) -> None:
    torch.manual_seed(2)
    layer, x = BFloat16Linear.pack(torch.randn(100, 64).bfloat16()), torch.randn(3, 64).bfloat16()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = layer(x)
        torch.set_num_threads(num_threads)
        assert all(torch.equal(layer(x), alone) for _ in range(50))
    finally:
        torch.set_num_threads(before)
