"""What many threads do first in a process: `python -m tests.store.first_use HOME FOLDER`, FOLDER that of a model.

Prints as JSON how each of some processes ended, forked before anything has read a file.
"""

import json
import os
import sys
import threading
from pathlib import Path

from hugging_llama.engine import vetting
from hugging_llama.store import soundness
from hugging_llama.store.manifests import Manifests
from hugging_llama.store.snapshot import read_snapshot
from hugging_llama.store.tokenizer_file import read_tokenizer

_PROCESSES = 20
_THREADS = 8


def _use(home: str, folder: str, start: threading.Barrier, failed: list[BaseException]) -> None:
    try:
        snapshot = read_snapshot(folder)
        start.wait()
        assert len(list(Manifests(home).all())) == 1
        soundness.check_model(snapshot)
        vetting.vet(folder)
        assert read_tokenizer(snapshot, with_tokens=True)
    except BaseException as error:
        failed.append(error)
        raise


def _ends_well(home: str, folder: str) -> bool:
    start = threading.Barrier(_THREADS)
    failed: list[BaseException] = []
    threads = [threading.Thread(target=_use, args=(home, folder, start, failed)) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed


def _exit_code(home: str, folder: str) -> int:
    child = os.fork()
    if not child:
        os._exit(not _ends_well(home, folder))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    home, folder = sys.argv[1:]
    Path(home, "models").mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(1e-6)  # so that threads meet where they seldom do
    print(json.dumps([_exit_code(home, folder) for _ in range(_PROCESSES)]))
