"""How much memory a model may take on this machine."""

import os
import subprocess
from dataclasses import dataclass

from hugging_llama_config.control_group import memory_limits, own_groups

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits")
_TIMEOUT_S = 3.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """The memory that counts, in words whose it is, and the kind of device, `cpu` or `cuda`."""

    num_bytes: int
    owner: str
    device: str = "cpu"


def machine_memory() -> MachineMemory | None:
    """The largest GPU's memory, else this machine's, else None where neither can be found out."""
    return _gpu_memory() or _main_memory()


def _gpu_memory() -> MachineMemory | None:
    try:
        answer = subprocess.run(
            _NVIDIA_SMI, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = []
    for line in answer.stdout.splitlines():
        megabytes, _, name = line.partition(",")
        if megabytes.strip().isdecimal():  # some boards share the machine's memory and say N/A
            found.append(MachineMemory(int(megabytes) * _MIB, name.strip(), "cuda"))
    return max(found, key=lambda gpu: gpu.num_bytes, default=None)


def _main_memory() -> MachineMemory | None:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    limit = min((group.limit for group in memory_limits(own_groups())), default=total)
    return MachineMemory(limit, "this container") if limit < total else MachineMemory(total, "this machine")
