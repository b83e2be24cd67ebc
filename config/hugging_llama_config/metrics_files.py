"""The files in which a web worker counts, mapped into its memory by prometheus_client.

That library makes them as long as they may become without asking for the space, and on a disk that is full the first
figure then ends the worker by SIGBUS, and so every later worker's. So the space is taken before, as much as all series
that the web side may make; a worker that gets none counts for itself. Standard library only, as the master calls this.
"""

import contextlib
import os
from pathlib import Path

BYTES = {"counter": 2**20, "gauge_max": 2**16, "gauge_livesum": 2**16, "histogram": 6 * 2**20}
"""By the kind of file that the library makes."""
_LENGTH_BYTES = 4
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def shared_folder() -> Path | None:
    """Where all workers of this server count, None where this process counts for itself."""
    found = os.environ.get(FOLDER_VARIABLE, "")
    return Path(found) if found else None


def reserve(folder: Path, pid: int) -> bool:
    """Take the space for the figures of the worker `pid`. False if there is none; then nothing is left of the try."""
    try:
        for path in (folder.parent, folder):  # unless somebody has deleted them, they are there
            path.mkdir(mode=0o700, exist_ok=True)
        for kind, size in BYTES.items():
            with (folder / f"{kind}_{pid}.db").open("xb") as file:
                file.write(bytes(size))
    except OSError:
        for kind in BYTES:
            with contextlib.suppress(OSError):
                (folder / f"{kind}_{pid}.db").unlink()
        return False
    return True


def shrink(folder: Path, pid: int) -> None:
    """Give back what a worker that is gone has not used: its counters stay, and are part of every later sum."""
    for kind in BYTES:
        path = folder / f"{kind}_{pid}.db"
        try:
            with path.open("rb") as file:
                used = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if used:
                os.truncate(path, used)
            else:
                path.unlink()
        except OSError:
            continue  # it never counted
