"""The folders of the server: whether they can be written to, and what space is left."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hugging_llama_cli.checks.finding import Finding, Level, Subject, ok, problem, warning
from hugging_llama_config import audit_file
from hugging_llama_config.home_format import HomeFormatError, read_home_format
from hugging_llama_config.launch import LaunchError, prepare_run_dir, socket_path
from hugging_llama_config.settings import Settings
from hugging_llama_config.units import format_bytes

_LEAST_BYTES, _LITTLE_BYTES = 10**9, 10 * 10**9


def check_folders(subject: Subject) -> Iterator[Finding]:
    """The home, the Hub's cache, sockets, and the operator's own folders."""
    settings = subject.settings
    yield _writable("home", "the folder of named models", settings.home)
    try:
        read_home_format(settings.home)
    except HomeFormatError as error:
        yield problem(str(error), "install the newer version, or set another home")
    cache = _writable("hub_cache", "the Hub's cache", settings.hub_cache)
    yield cache
    if cache.level is Level.OK:
        yield from _space(settings)
    yield _sockets(settings)
    for folder in settings.model_dirs:
        if not os.path.isdir(folder) or not os.access(folder, os.R_OK | os.X_OK):
            yield warning(
                f"model_dirs: {folder} is no folder that can be read", "make it, or take it out of model_dirs"
            )
    if settings.audit_log and (
        reason := _why_not(os.path.dirname(settings.audit_log)) or audit_file.why_not(settings.audit_log)
    ):
        yield problem(f"audit_log: {settings.audit_log} can't be written: {reason}", "choose another file")


def _writable(setting: str, what: str, folder: str) -> Finding:
    if reason := _why_not(folder):
        return problem(f"{what}, {folder}: {reason}", f"let user {os.geteuid()} write there, or set another {setting}")
    made = "" if os.path.isdir(folder) else ", which is made when it is needed"
    return ok(f"{what}, {folder}{made}")


def _why_not(folder: str) -> str:
    """Why nothing can be written below `folder`, "" if it can. One that is not there would be made."""
    existing = _existing(folder)
    if not existing.is_dir():
        return f"{existing} is not a folder"
    try:
        # a file without a name; the rights alone do not tell of full disks, quotas and read-only file systems
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
    except OSError as error:
        where = "" if str(existing) == os.path.abspath(folder) else f" in {existing}"
        return f"nothing can be written{where} ({error.strerror})"
    return ""


def _existing(folder: str) -> Path:
    """The folder, or what there is of the way to it."""
    path = Path(os.path.abspath(folder))
    while not os.path.lexists(path):
        path = path.parent
    return path


def _space(settings: Settings) -> Iterator[Finding]:
    home, cache = _existing(settings.home), _existing(settings.hub_cache)
    free = shutil.disk_usage(cache).free
    found = f"{format_bytes(free)} free for models"
    advice = "free some, or move hub_cache to a larger disk: a model of 8 billion parameters takes 16 GB"
    if free < _LEAST_BYTES:
        yield problem(found, advice)
    elif free < _LITTLE_BYTES:
        yield warning(found, advice)
    else:
        yield ok(found)
    nodes = os.statvfs(cache)
    if nodes.f_files and not nodes.f_favail:
        yield problem(f"no inodes are left for {cache}", "delete many small files there")
    if os.stat(home).st_dev != os.stat(cache).st_dev:
        left = shutil.disk_usage(home).free
        found = (
            f"home and the Hub's cache are on two file systems, {format_bytes(left)} free: files are copied, not linked"
        )
        if left < _LEAST_BYTES:
            yield warning(found, "keep space for uploads and converted models, or put both on one")
        else:
            yield ok(found)


def _sockets(settings: Settings) -> Finding:
    folder = settings.run_dir
    if reason := _why_not(folder):
        return problem(f"the folder of sockets, {folder}: {reason}", "set run_dir to a folder of this user's")
    try:
        path = socket_path(settings)
        if os.path.isdir(folder):
            prepare_run_dir(settings)
    except LaunchError as error:
        return problem(str(error), "set run_dir to a short path of a folder that is this user's alone")
    return ok(f"sockets go to {os.path.dirname(path)}")
