"""How much each part of the server logs: as the settings say, and as a file says that may change while it runs.

The file `log-levels` in the run folder, which only the server's user may write, has lines such as `engine=debug`. Web
workers and engine look at it every two seconds; what is not in it, or is no level, is as the settings say.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)

PARTS = ("web", "dialects", "operations", "client", "store", "engine", "ipc", "access")
"""Each is a package below `hugging_llama`; `access` logs a line a request."""
LEVELS = ("debug", "info", "warning", "error")
FILE = "log-levels"
_EVERY_S = 2.0
_MAX_BYTES = 4096


def parse_levels(pairs: Iterable[str]) -> dict[str, str]:
    """`part=level` each. Raises ValueError for another one."""
    found = {}
    for pair in pairs:
        part, sign, level = (text.strip() for text in pair.partition("="))
        if not sign:
            raise ValueError(f"{pair.strip()!r} is no PART=LEVEL, such as engine=debug")
        if part not in PARTS:
            raise ValueError(f"{part!r} is none of {', '.join(PARTS)}")
        if level not in LEVELS:
            raise ValueError(f"{level!r} is none of {', '.join(LEVELS)}")
        found[part] = level
    return found


def apply_levels(levels: Mapping[str, str]) -> None:
    """Those of all parts; one that is not named logs as the rest of the process."""
    for part in PARTS:
        logging.getLogger(f"hugging_llama.{part}").setLevel(levels.get(part, "notset").upper())


def watch_levels(run_dir: str, pairs: Iterable[str]) -> None:
    """Apply the levels of the settings, `pairs`, and from now on those of the file, in a thread of its own."""
    usual = parse_levels(pairs)
    path = os.path.join(run_dir, FILE)
    text = _read(path)
    _apply(usual, text)
    threading.Thread(target=_watch, args=(path, usual, text), name="log-levels", daemon=True).start()


def _watch(path: str, usual: Mapping[str, str], last: str) -> None:
    while True:
        time.sleep(_EVERY_S)
        text = _read(path)
        if text != last:
            last = text
            _apply(usual, text)


def _apply(usual: Mapping[str, str], text: str) -> None:
    try:
        levels = {**usual, **parse_levels(text.split())}
    except ValueError as error:
        logger.error("%s: %s; nothing is changed", FILE, error)
        return
    apply_levels(levels)
    if text:
        logger.warning("log levels: %s", ", ".join(f"{part}={level}" for part, level in sorted(levels.items())))


def _read(path: str) -> str:
    """ "" without a file."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        return file.read(_MAX_BYTES)
    return ""
