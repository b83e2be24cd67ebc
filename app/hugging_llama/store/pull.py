"""A whole pull in this process: what the Hub has, what is missing here, the files, then the ref.

The server runs it in a child process, see `pull_stream`.
"""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from hugging_llama.errors import InvalidRequestError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import (
    disk_errors,
    file_lock,
    hub_http,
    names,
    selection,
    snapshot,
    snapshot_writer,
    soundness,
    transfer,
)
from hugging_llama.store.downloads import Downloads, Fetch, Wait
from hugging_llama.store.hub import OFFLINE, Hub, RemoteFile
from hugging_llama.store.hub_http import HubAccess
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.names import ModelName
from hugging_llama.store.new_folders import make_folders
from hugging_llama.store.retry import RetryPolicy, TransientError
from hugging_llama_config.small_files import parse_json

_REPORT_EVERY_S = 0.1
_WEIGHTS = (".safetensors", ".bin")
# How long a removal of the same repository may keep a pull waiting.
_REMOVAL_S = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull from where into which cache.

    An adapter is a LoRA for another model. `allow_code` brings the repository's Python files, too, and `allow_pickle`
    pickled weights where there are no others; `can_convert` says that those who ask could have them that way.
    """

    name: ModelName
    cache: str
    access: HubAccess
    kind: Literal["model", "adapter"] = "model"
    allow_code: bool = False
    allow_pickle: bool = False
    can_convert: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)


def pull_files(request: PullRequest) -> Iterator[TransferProgress]:
    """Pull a revision; yields about every 0.1 s while bytes arrive. Closing the iterator keeps what has arrived.

    Raises ModelNotFoundError, GatedModelError, KeyRejectedError, InvalidRequestError for an unknown revision, and
    TransferError for all that network, Hub and disk can do.
    """
    repo = request.name.repo
    try:
        with contextlib.closing(Hub(request.access, request.policy)) as hub:
            yield from _Pull(request, hub).run()
    except OSError as error:
        failure = disk_errors.disk_error(error, disk_errors.CACHE)
        failure.facts["repo"] = repo
        raise failure from error
    except TransferError as error:
        error.facts.setdefault("repo", repo)
        if error.facts.get("cause") == OFFLINE and _is_here(request):
            text = f"{error.message}; {request.name.display} as it is here stays usable"
            raise TransferError(text, **error.facts) from error
        raise
    except selection.PickledError as error:
        text = f"it has pickled weights alone; create converts them: hugging-llama create NAME --from {repo}"
        cause = text if request.can_convert else str(error)
        raise TransferError(f"{repo} can't be served: {cause}", repo=repo, cause=cause) from error
    except selection.NotServableError as error:
        raise TransferError(f"{repo} can't be served: {error}", repo=repo, cause=str(error)) from error


class _Pull:
    def __init__(self, request: PullRequest, hub: Hub) -> None:
        self._request = request
        self._hub = hub
        self._policy = request.policy
        self._fetched_bytes = 0
        self._counting = threading.Lock()

    def run(self) -> Iterator[TransferProgress]:
        wanted = self._request.name
        found = self._patiently(functools.partial(self._hub.commit, wanted))
        self._name = ModelName(found.repo, wanted.revision)
        self._commit = found.commit
        listed = self._patiently(functools.partial(self._hub.files, self._name, self._commit))
        self._folder = RepoFolder(self._request.cache, found.repo)
        with file_lock.locked(self._folder.pull_lock, _REMOVAL_S, shared=True):
            yield from self._bring({file.path: file for file in listed})

    def _bring(self, remote: Mapping[str, RemoteFile]) -> Iterator[TransferProgress]:
        files = self._chosen(remote)
        make_folders(self._folder.path)
        _check_space(self._folder, files)
        if self._request.kind == "model":
            config = remote.get(selection.CONFIG)
            soundness.check_first(
                remote,
                snapshot.read_object(self._fetch_first(config)) if config else None,
                allow_code=self._request.allow_code,
            )
        yield from self._download(files)
        if self._request.kind == "model":
            soundness.check_model(self._brought(files))
        yield TransferProgress(status="writing manifest", fetched_bytes=self._fetched_bytes)
        snapshot_writer.write_snapshot(self._folder, self._commit, self._name.revision, files)
        yield TransferProgress(status="success", fetched_bytes=self._fetched_bytes)

    def _chosen(self, remote: Mapping[str, RemoteFile]) -> list[RemoteFile]:
        """The files to bring, small ones first."""
        if self._request.kind == "adapter":
            return sorted((remote[path] for path in selection.adapter_files(remote)), key=lambda file: file.size_bytes)
        if selection.is_adapter(remote):
            raise selection.NotServableError(self._adapter_advice(remote))
        allow_pickle = self._request.allow_pickle
        weights = selection.weight_files(
            remote, lambda path: snapshot.read_small(self._fetch_first(remote[path])), allow_pickle=allow_pickle
        )
        selection.check_configuration(remote)
        kept = [path for path in sorted(remote) if self._is_kept(path)]
        if (index := selection.weight_index(remote, allow_pickle=allow_pickle)) and index not in kept:
            kept.append(index)
        return [remote[path] for path in (*kept, *weights)]

    def _is_kept(self, path: str) -> bool:
        if path == selection.ADAPTER_CONFIG:  # transformers would apply the adapter unasked
            return False
        is_allowed_code = self._request.allow_code and selection.is_code(path)
        return selection.is_support(path) or selection.is_document(path) or is_allowed_code

    def _fetch_first(self, file: RemoteFile) -> str:
        """Bring a file into the cache before all others; returns its place."""
        for _ in self._fetch(self._hub, file, time.sleep):
            pass  # a file of some kilobytes
        return self._folder.blob(file.digest)

    def _brought(self, files: Sequence[RemoteFile]) -> snapshot.Snapshot:
        """The model as it will be seen, all of whose files are in the blobs."""
        found = {
            file.path: snapshot.SnapshotFile(file.path, file.size_bytes, file.digest, self._folder.blob(file.digest))
            for file in files
            if not selection.is_document(file.path)
        }
        weights = tuple(path for path in found if path.endswith(_WEIGHTS))
        return snapshot.Snapshot(self._folder.path, found, weights, ())

    def _adapter_advice(self, remote: Mapping[str, RemoteFile]) -> str:
        path = remote[selection.ADAPTER_CONFIG].path
        ask = functools.partial(self._hub.open_file, self._name, self._commit, path, 0)
        text = self._patiently(lambda: hub_http.read_json_bytes(ask()))
        base = _adapter_base(text)
        repo = self._name.repo
        return (
            f"it is an adapter for {base or 'another model'}; write `FROM {base or 'MODEL'}` and `ADAPTER {repo}` in a "
            "Modelfile and create a model from that"
        )

    def _download(self, files: Sequence[RemoteFile]) -> Iterator[TransferProgress]:
        here = {file.path: transfer.arrived_bytes(self._folder, file) for file in files}
        total = sum(file.size_bytes for file in files)
        may_verify = sum(here.values()) < total
        reported: dict[str, int] = {}
        with Downloads(files, self._connection) as downloads:
            is_over = False
            while not is_over:
                is_over = downloads.wait(_REPORT_EVERY_S)
                arrived = downloads.arrived()
                overall = sum((here | arrived).values())
                for file in files:
                    if file.path in arrived and arrived[file.path] != reported.get(file.path):
                        reported[file.path] = arrived[file.path]
                        yield self._progress(file, arrived[file.path], total, overall)
                if may_verify and overall == total:
                    may_verify = False
                    yield TransferProgress(status="verifying sha256 digest", fetched_bytes=self._fetched_bytes)

    def _progress(self, file: RemoteFile, arrived: int, total: int, overall: int) -> TransferProgress:
        return TransferProgress(
            status="downloading",
            path=os.path.relpath(self._folder.pointer(self._commit, file.path), self._folder.cache),
            file=file.path,
            digest=file.digest,
            total_bytes=file.size_bytes,
            completed_bytes=arrived,
            overall_total_bytes=total,
            overall_completed_bytes=overall,
            fetched_bytes=self._fetched_bytes,
        )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Fetch]:
        with contextlib.closing(Hub(self._request.access, self._policy)) as hub:
            yield functools.partial(self._fetch, hub)

    def _fetch(self, hub: Hub, file: RemoteFile, wait: Wait) -> Generator[int, None, None]:
        open_file = functools.partial(hub.open_file, self._name, self._commit, file.path)
        return transfer.fetch_blob(self._folder, file, open_file, self._policy, wait, self._count)

    def _count(self, number: int) -> None:
        with self._counting:
            self._fetched_bytes += number

    def _patiently(self, ask: Callable[[], _T]) -> _T:
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


def _adapter_base(config: bytes) -> str:
    """The model that an adapter's configuration says it is for; "" where that is no name of the Hub."""
    try:
        base = parse_json(selection.ADAPTER_CONFIG, config)["base_model_name_or_path"]
        return names.parse_repo(base) if isinstance(base, str) else ""
    except (ValueError, KeyError, TypeError, RecursionError, InvalidRequestError):
        return ""


def _is_here(request: PullRequest) -> bool:
    return os.path.isfile(RepoFolder(request.cache, request.name.repo).ref(request.name.revision))


def _check_space(folder: RepoFolder, files: Sequence[RemoteFile]) -> None:
    missing = {file.digest: file.size_bytes - transfer.arrived_bytes(folder, file) for file in files}
    disk_errors.check_space(folder.path, sum(missing.values()), "the model")
