"""What a server holds: memory, descriptors, processes, sequences."""

import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import psutil  # type: ignore[import-untyped]

from tests.soak.exchange import Ask, End, send
from tests.soak.memory import pss_bytes
from tests.soak.world import CHAT, EMBEDDING, RERANKER, World

WHOLE = {"master": 1, "worker": 2, "supervisor": 1, "engine": 1, "standby": 1}
FIGURES = ("running", "waiting", "kv_used_tokens")
_WHOLE_WITHIN_S = 180.0
_IDLE_WITHIN_S = 60.0
_TOUCHES = (
    *(Ask("touch", "/api/generate", {"model": model, "keep_alive": "5m"}) for model in CHAT),
    Ask("touch", "/api/embed", {"model": EMBEDDING, "input": "x"}),
    Ask("touch", "/v1/rerank", {"model": RERANKER, "query": "x", "documents": ["y"]}),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One look at a whole server. `figures` are what the engine says of itself."""

    at: float
    pss_bytes: dict[str, int]
    descriptors: dict[str, int]
    processes: dict[str, int]
    figures: dict[str, float]

    @property
    def total_bytes(self) -> int:
        return sum(self.pss_bytes.values())


def measure(world: World) -> Measure:
    """Waits until nobody is missing and all models are loaded, so that two measures compare. Raises TimeoutError."""
    deadline = time.monotonic() + _WHOLE_WITHIN_S
    while time.monotonic() < deadline:
        with ThreadPoolExecutor(len(_TOUCHES)) as pool:
            touched = list(pool.map(lambda touch: send(world.port, touch).end, _TOUCHES))
        if set(touched) == {End.ANSWER}:
            roles = world.by_role()
            if {role: len(roles.get(role, [])) for role in WHOLE} == WHOLE and _is_settled(roles["standby"][0]):
                return _look(world, roles)
        time.sleep(0.2)
    raise TimeoutError(f"the server is not whole: { ({role: len(some) for role, some in world.by_role().items()}) }")


def measure_loaded(world: World, seconds: float) -> Measure:
    """A measure with the mean memory of so many seconds, in which nobody is killed: what loads, long prompts and pulls
    need comes and goes. Raises TimeoutError."""
    found = measure(world)
    roles = {process.pid: role for role, processes in world.by_role().items() for process in processes}
    command = [sys.executable, "-m", "tests.soak.memory", str(world.folder), str(seconds)]
    means = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    pss: dict[str, int] = {}
    for pid, size in means.items():
        role = roles.get(int(pid), "pull")  # nothing else begins now
        pss[role] = pss.get(role, 0) + size
    return replace(found, pss_bytes=pss)


def measure_at_rest(world: World) -> Measure:
    """A measure of what is kept: nobody asks, and the models that write are loaded anew, upon which the engine gives
    back what is free. Raises TimeoutError."""
    deadline = time.monotonic() + _IDLE_WITHIN_S
    while any(world.server.figure(name) for name in FIGURES) or world.by_role().get("pull"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still at work: { ({name: world.server.figure(name) for name in FIGURES}) }")
        time.sleep(0.2)
    for model in CHAT:
        send(world.port, Ask("unload", "/api/generate", {"model": model, "keep_alive": 0}))
    return measure(world)


def _is_settled(standby: psutil.Process) -> bool:
    """Whether it waits for its settings, its imports behind it."""
    with contextlib.suppress(psutil.Error):
        before = sum(standby.cpu_times()[:2])
        time.sleep(0.3)
        return bool(sum(standby.cpu_times()[:2]) == before and "/torch/" in _mapped(standby))
    return False


def _mapped(process: psutil.Process) -> str:
    with open(f"/proc/{process.pid}/maps") as maps:
        return maps.read()


def _look(world: World, roles: dict[str, list[psutil.Process]]) -> Measure:
    pss: dict[str, int] = {}
    descriptors: dict[str, int] = {}
    for role, processes in roles.items():
        for process in processes:
            # pulls come and go; who else goes is missed by the next look, or was killed
            with contextlib.suppress(psutil.Error, OSError):
                pss[role] = pss.get(role, 0) + pss_bytes(process.pid)
                descriptors[role] = max(descriptors.get(role, 0), process.num_fds())
    figures = {name: world.server.figure(name) for name in FIGURES}
    counts = {role: len(processes) for role, processes in roles.items()}
    return Measure(time.monotonic(), pss, descriptors, counts, figures)
