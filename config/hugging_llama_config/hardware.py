"""What this machine offers, found without importing torch."""

import platform
from pathlib import Path


def probable_device() -> str:
    """`cuda`, `mps` or `cpu`, judged by the driver's device file and the platform; the engine knows for sure."""
    if Path("/dev/nvidiactl").exists():
        return "cuda"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"
