"""What this machine offers, found without importing torch."""

import platform
from pathlib import Path

_CPU_FACTS = "/proc/cpuinfo"
KERNEL_FLAGS = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"})


def probable_device() -> str:
    """`cuda`, `mps` or `cpu`, judged by the driver's device file and the platform; the engine knows for sure."""
    if Path("/dev/nvidiactl").exists():
        return "cuda"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"


def expected_device(setting: str) -> str:
    """What models will run on where the settings say `setting`, which may be `auto`."""
    return probable_device() if setting == "auto" else setting


def runs_native_kernels(cpu_facts: str = _CPU_FACTS) -> bool:
    """Whether this processor has what the engine's own CPU kernels need; whether they were compiled is not asked."""
    return cpu_flags(cpu_facts) >= KERNEL_FLAGS


def cpu_flags(cpu_facts: str = _CPU_FACTS) -> frozenset[str]:
    """The processor's features as Linux names them; none where it does not tell."""
    try:
        lines = Path(cpu_facts).read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())
