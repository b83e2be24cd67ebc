"""How an engine is started: where its socket lies, what it is told, which environment it gets.

Standard library only, and used by everybody who may start one: the gunicorn hooks and every web process. Who holds
the lock beside the socket is the supervisor of that engine, so any number of processes may try at once.
"""

import contextlib
import fcntl
import json
import math
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from hugging_llama_config.control_group import own_groups
from hugging_llama_config.described import ENGINE
from hugging_llama_config.interpreter import own_python
from hugging_llama_config.settings import DEFAULTS, SETTINGS, Settings

# -P: where the application was started may lie files that are called as our libraries are
ENGINE_COMMAND: tuple[str, ...] = (own_python(), "-P", "-m", "hugging_llama.engine")
SUPERVISOR_COMMAND: tuple[str, ...] = (own_python(), "-P", "-m", "hugging_llama.client.supervisor")
CONVERSION_COMMAND: tuple[str, ...] = (own_python(), "-P", "-m", "hugging_llama.engine.conversion")
LINGER_S = 30.0
"""How long an engine without a life line stays when no web process is connected, and its supervisor when all engines
fail."""
STANDBY_AFTER_S = 15.0
"""An engine must have lived as long as this before another one is kept ready to take over."""
SPIN_COUNT = "500"
"""How often a waiting thread of OpenMP looks before it sleeps, about 10 us; to libgomp it stands above OMP_WAIT_POLICY.

This is for torch's operators, in the steps of models that our kernels don't serve whole: the kernels have threads of
their own. With all of a step's hundred loops on OpenMP, int4 weights and two cores, ms a step: asleep at once 15.3, 500
turns 12.8, 1000 turns 12.1; beside a busy process 15.2, 15.7 and 18.5 (10000 turns 30), because a thread that spins for
long has used up its time slice when there is work.
"""
PRIMITIVES = "256"
"""How many of its compiled operators oneDNN keeps; its own default is 1024.

It compiles one for each shape of a product, and the inputs of an embedding model make new shapes all the time: hundreds
of megabytes came together within minutes. CPU time of an engine that embeds texts of many lengths, against 1024 kept,
in turns: with 128 1.06, with 256 1.00 to 1.01; after 3,000 texts it had 140 MB less than with 1024.
"""
PREPARED_PRODUCTS = "128"
"""How many of them torch's layer above it (ideep) holds on to in each thread besides; its own default is 1024, and what
it holds lives on. After 200 texts to all-MiniLM-L6-v2 178 MB less than with 1024, at the same speed.
"""
BEATS = 10
"""So many signs of life an engine gives in `engine_timeout_s`."""
IMPORTED = b"\1"
"""The first of them, before it knows its settings; those of an engine that serves are another byte."""
_MAX_SOCKET_PATH = 107
_FAILING = b"failing"
# settings that change nothing in the engine; two servers that differ in these share one
_WEB_ONLY = tuple(name for name, setting in SETTINGS.items() if ENGINE not in setting.read_by)
# what the engine may see of our environment: secrets of the app that mounts us are none of its business
_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "LRU_CACHE_CAPACITY",
)
_KEPT_PREFIXES = (
    "LC_",
    "LD_",
    "DYLD_",
    "PYTHON",
    "CUDA",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "OMP_",
    "ONEDNN_",
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "RAY_",
)
_KEPT_HF = ("HF_HOME", "HF_HUB_CACHE", "HF_MODULES_CACHE")


class LaunchError(Exception):
    """No engine can be started here. The message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What an engine process reads from its standard input. `linger_s` None: it never leaves by itself."""

    settings: Settings
    linger_s: float | None

    def to_json(self) -> str:
        return json.dumps({"settings": self.settings.to_json(), "linger_s": self.linger_s})

    @classmethod
    def from_json(cls, text: str) -> "Launch":
        """Raises ValueError, KeyError or TypeError for what `to_json` of this version did not write."""
        values: dict[str, Any] = json.loads(text)
        return cls(settings=Settings.from_json(values["settings"]), linger_s=values["linger_s"])


def engine_settings(settings: Settings) -> Settings:
    """`settings` as the engine sees them: without secrets, and without what concerns the web side only."""
    return replace(settings, **{name: DEFAULTS[name] for name in _WEB_ONLY})


def socket_path(settings: Settings) -> str:
    """Where the engine for these settings listens. Raises LaunchError if the path is too long for a socket."""
    path = os.path.join(settings.run_dir, f"engine-{engine_settings(settings).fingerprint}.sock")
    # the engine binds `path.<pid>` before it takes the name
    if len(os.fsencode(path)) + len(".4194304") > _MAX_SOCKET_PATH:
        raise LaunchError(f"run_dir is too long for a socket: {settings.run_dir}")
    return path


def prepare_run_dir(settings: Settings) -> None:
    """Make the directory for sockets. Raises LaunchError unless it is ours alone."""
    path = Path(settings.run_dir)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise LaunchError(f"run_dir can't be made: {error}") from None
    # in a shared temporary directory somebody else may have made it first
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise LaunchError(f"run_dir must be a directory of this user with mode 0700: {path}")


def engine_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the supervisor and the engine."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name in _KEPT_HF or name.startswith(_KEPT_PREFIXES)
    }
    return kept | {
        # threads that wait long sleep: spinning on costs a busy neighbour's time slice at each barrier
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": kept.get("GOMP_SPINCOUNT", SPIN_COUNT),
        "OMP_NUM_THREADS": str(num_threads(settings)),
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": kept.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", PRIMITIVES),
        "LRU_CACHE_CAPACITY": kept.get("LRU_CACHE_CAPACITY", PREPARED_PRODUCTS),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


def num_threads(settings: Settings) -> int:
    """Compute threads of the engine: as set, else one core is left to the web workers, where there are three.

    A free core matters more to the latency of /health and of the streams than the last thread does to a step. Of two
    cores both are taken: with one, each step would take nearly twice as long, and passive waiting lets the workers in.
    """
    if settings.num_threads > 0:
        return settings.num_threads
    cores = available_cores()
    return cores if cores <= 2 else cores - 1


def available_cores() -> int:
    """Cores that this process may use: of the machine, by taskset and cpusets, by a container's or unit's quota."""
    # sched_getaffinity does not exist on macOS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in own_groups():
        # no such file, or "max": no quota
        with contextlib.suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def start_supervisor(settings: Settings, life_line: int | None = None) -> bool:
    """Start a supervisor, unless there is one for these settings. Returns whether it was started; waits for nothing.

    `life_line` is the read end of a pipe: when its last writer is gone, the supervisor and its engine end. Without
    one the engine ends when nobody has been connected for LINGER_S. Raises LaunchError.
    """
    prepare_run_dir(settings)
    path = socket_path(settings)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        note_failing(lock, failing=False)
        # the lock belongs to the open file, which the supervisor inherits: it is held as long as that lives
        _spawn(settings, path, lock, life_line)
        return True
    finally:
        os.close(lock)


def start_conversion(settings: Settings, connection: int, lock: int) -> "subprocess.Popen[bytes]":
    """Start a process that converts a model's weights; `connection` is its socket, `lock` it only holds open.

    Raises OSError.
    """
    return subprocess.Popen(
        [*CONVERSION_COMMAND, str(connection)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[connection, lock],
        # one thread serves a conversion, which must not take the engine's cores; tqdm would draw on the log
        env=engine_environment(settings, os.environ) | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        start_new_session=True,
    )


def is_supervised(settings: Settings) -> bool:
    """Whether a supervisor for these settings is alive."""
    try:
        lock = os.open(f"{socket_path(settings)}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def note_failing(lock: int, *, failing: bool) -> None:
    """Write beside the socket whether the engine ends again and again; called by who holds the lock."""
    os.ftruncate(lock, 0)
    if failing:
        os.pwrite(lock, _FAILING, 0)


def is_failing(settings: Settings) -> bool:
    """Whether the supervisor for these settings, if there is one, has noted that its engine ends again and again."""
    try:
        return Path(f"{socket_path(settings)}.lock").read_bytes() == _FAILING
    except OSError:
        return False


def _spawn(settings: Settings, path: str, lock: int, life_line: int | None) -> None:
    command = [*SUPERVISOR_COMMAND, "--lock", str(lock), "--log-level", settings.log_level]
    command += ["--log-format", settings.log_format]
    inherited = [lock]
    if life_line is not None:
        command += ["--life-line", str(life_line)]
        inherited.append(life_line)
    else:
        command += ["--linger", str(LINGER_S)]
    if settings.standby_engine:
        command += ["--standby-after", str(STANDBY_AFTER_S)]
    if 0 < settings.engine_timeout_s < math.inf:
        command += ["--silent-after", str(settings.engine_timeout_s)]
    command += ["--", *ENGINE_COMMAND, path]
    launch = Launch(settings=engine_settings(settings), linger_s=LINGER_S if life_line is None else None)
    with filled_pipe(launch.to_json()) as stdin:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            # what a mounted app writes to its standard output is its own
            stdout=sys.__stderr__,
            pass_fds=inherited,
            env=engine_environment(settings, os.environ),
            start_new_session=True,
        )
    # the supervisor forks itself away at once: nobody has to reap it later, whoever started it
    if process.wait() != 0:
        raise LaunchError(f"the supervisor could not be started (status {process.returncode})")


def filled_pipe(text: str) -> TextIO:
    """A file to read `text` from; it must fit the pipe's buffer. The caller closes it."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as writer:
        writer.write(text)
    return os.fdopen(read_end)
