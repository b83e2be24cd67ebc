"""A whole pull in this process: what the Hub has, what is missing here, one file after the other, then the ref.

The server runs it in a child process, see `pull_stream`.
"""

import contextlib
import errno
import functools
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hugging_llama.errors import HuggingLlamaError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import file_lock, selection, snapshot, snapshot_writer, transfer
from hugging_llama.store.hub import Hub, RemoteCommit, RemoteFile
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.names import ModelName
from hugging_llama.store.retry import RetryPolicy, TransientError

_REPORT_EVERY_S = 0.1
# How long a removal of the same repository may keep a pull waiting.
_REMOVAL_S = 60.0
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull from where into which cache; `allow_code` brings the repository's Python files, too."""

    name: ModelName
    cache: str
    access: HubAccess
    allow_code: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)


def pull_files(request: PullRequest) -> Iterator[TransferProgress]:
    """Pull a revision; yields about every 0.1 s while bytes arrive. Closing the iterator keeps what has arrived.

    Raises ModelNotFoundError, GatedModelError, KeyRejectedError, InvalidRequestError for an unknown revision, and
    TransferError for all that network, Hub and disk can do.
    """
    repo = request.name.repo
    try:
        hub = Hub(request.access, request.policy)
        with contextlib.closing(hub):
            yield from _Pull(request, hub).run()
    except OSError as error:
        raise _disk_error(error, repo) from error
    except TransferError as error:
        error.facts.setdefault("repo", repo)
        raise
    except selection.NotServableError as error:
        raise TransferError(f"{repo} can't be served: {error}", repo=repo, cause=str(error)) from error


class _Pull:
    def __init__(self, request: PullRequest, hub: Hub) -> None:
        self._request = request
        self._hub = hub
        self._policy = request.policy

    def run(self) -> Iterator[TransferProgress]:
        name = self._request.name
        commit: RemoteCommit = self._patiently(functools.partial(self._hub.commit, name))
        name = ModelName(commit.repo, name.revision)
        remote = {file.path: file for file in self._patiently(functools.partial(self._hub.files, name, commit.commit))}
        folder = RepoFolder(self._request.cache, commit.repo)
        with file_lock.locked(folder.pull_lock, _REMOVAL_S, shared=True):
            yield from self._bring(folder, commit.commit, remote)

    def _bring(self, folder: RepoFolder, commit: str, remote: Mapping[str, RemoteFile]) -> Iterator[TransferProgress]:
        os.makedirs(folder.path, exist_ok=True)
        if selection.WEIGHTS not in remote and selection.INDEX in remote:
            yield from self._fetch(folder, commit, remote[selection.INDEX])
        files = _chosen(remote, folder, self._request.allow_code)
        _check_space(folder, files)
        for file in files:
            yield from self._fetch(folder, commit, file)
        snapshot_writer.write_snapshot(folder, commit, self._request.name.revision, files)
        yield TransferProgress(status="success")

    def _fetch(self, folder: RepoFolder, commit: str, file: RemoteFile) -> Iterator[TransferProgress]:
        name = ModelName(folder.repo, self._request.name.revision)
        open_file = functools.partial(self._hub.open_file, name, commit, file.path)
        path = os.path.relpath(folder.pointer(commit, file.path), folder.cache)
        reported, reported_at = -1, 0.0
        for arrived in transfer.fetch_blob(folder, file, open_file, self._policy):
            now = time.monotonic()
            if arrived == reported == file.size_bytes:
                continue
            if now - reported_at < _REPORT_EVERY_S and arrived < file.size_bytes:
                continue
            reported, reported_at = arrived, now
            yield TransferProgress(
                status="downloading",
                path=path,
                file=file.path,
                digest=file.digest,
                total_bytes=file.size_bytes,
                completed_bytes=arrived,
            )

    def _patiently(self, ask: "functools.partial[_T]") -> _T:
        """The answer to a short question, asked again while the failure may go away."""
        failures = 0
        while True:
            try:
                return ask()
            except TransientError as error:
                failures += 1
                if self._policy.is_over(failures, error):
                    raise TransferError(error.cause, cause=error.cause) from error
                time.sleep(self._policy.wait_s(failures, error))


def _chosen(remote: Mapping[str, RemoteFile], folder: RepoFolder, allow_code: bool) -> list[RemoteFile]:
    """The files to bring, small ones first. The index, if it is needed, has been brought."""
    weights = selection.weight_files(remote, lambda path: snapshot.read_small(folder.blob(remote[path].digest)))
    selection.check_configuration(remote)
    support = [
        path
        for path in sorted(remote)
        if selection.is_support(path) or selection.is_document(path) or (allow_code and selection.is_code(path))
    ]
    return [remote[path] for path in (*support, *weights)]


def _check_space(folder: RepoFolder, files: list[RemoteFile]) -> None:
    missing = {file.digest: file.size_bytes - transfer.arrived_bytes(folder, file) for file in files}
    need, free = sum(missing.values()), shutil.disk_usage(folder.path).free
    if need > free:
        raise TransferError(f"not enough disk space: {need} bytes are missing, {free} are free", cause="disk full")


def _disk_error(error: OSError, repo: str) -> HuggingLlamaError:
    """The operating system's words without its paths."""
    if error.errno in _DISK_FULL:
        return TransferError("no space left on the disk of the model cache", repo=repo, cause="disk full")
    cause = (error.strerror or "input/output error").lower()
    return TransferError(f"the model cache can't be written: {cause}", repo=repo, cause=cause)
