"""A whole push in this process: a repository, its big files, and then one commit that makes the model visible.

The server runs it in a child process, see `push_stream`.
"""

import concurrent.futures
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, ModelNotFoundError, TransferError
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import names, push_errors, push_http, transfer
from hugging_llama.store.hub import Hub, RemoteFile
from hugging_llama.store.names import ModelName
from hugging_llama.store.push_files import is_replaced
from hugging_llama.store.push_request import PushFile, PushRequest
from hugging_llama.store.retry import TransientError

_REPORT_EVERY_S = 0.1
# Small files go first: whoever may not write learns it before gigabytes are hashed.
_BIG_BYTES = 10 * 2**20
_GIT_SHA1_LENGTH = 40
_T = TypeVar("_T")


def push_files(request: PushRequest) -> Iterator[TransferProgress]:
    """Push; yields about every 0.1 s while bytes leave. The commit comes last: it appears whole or not at all.

    Raises KeyRejectedError, WriteForbiddenError, GatedModelError, InvalidRequestError, and TransferError for all that
    network, Hub and disk can do.
    """
    repo, access = request.name.repo, request.access
    try:
        push_http.install(access, request.timeout_s)
        with closing(Hub(access, request.policy)) as hub, ExitStack() as open_files:
            yield from _Push(request, hub, open_files).run()
    except Exception as error:
        ours = push_errors.as_ours(error, repo, access)
        if isinstance(ours, TransientError):
            raise TransferError(ours.cause, repo=repo, cause=ours.cause) from error
        if ours is None or ours is error:
            raise
        raise ours from error


class OutgoingFile(io.BufferedReader):
    """A file that knows how far it has left: what comes before the part that is being asked for is with the network."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.sent_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.sent_bytes = start
        return data


@dataclass(frozen=True, slots=True)
class _Addition:
    """A file of the commit; `outgoing` is None for a text."""

    operation: CommitOperationAdd
    outgoing: OutgoingFile | None

    @property
    def path(self) -> str:
        return self.operation.path_in_repo

    @property
    def size_bytes(self) -> int:
        return self.operation.upload_info.size

    @property
    def sha256(self) -> str:
        return self.operation.upload_info.sha256.hex()

    def is_same(self, remote: RemoteFile) -> bool:
        """Whether the Hub's file has this content: it names big ones by sha256, small ones as git does."""
        if remote.size_bytes != self.size_bytes:
            return False
        if len(remote.digest) != _GIT_SHA1_LENGTH:
            return remote.digest == self.sha256
        digest = transfer.new_hash(remote)
        with self.operation.as_file() as file:
            digest.update(file.read())
        return digest.hexdigest() == remote.digest


class _Push:
    def __init__(self, request: PushRequest, hub: Hub, open_files: ExitStack) -> None:
        self._request = request
        self._hub = hub
        self._open_files = open_files
        self._name = request.name
        self._policy = request.policy
        self._total_bytes = sum(map(_size, request.files))
        self._sent_bytes: dict[str, int] = {}
        self._api = HfApi(endpoint=request.access.endpoint, token=request.access.token, library_name="hugging-llama")

    def run(self) -> Iterator[TransferProgress]:
        self._make_branch()
        head, there = self._state()
        ours = {file.path for file in self._request.files}
        stale = [path for path in there if is_replaced(path) and path not in ours]
        additions: list[_Addition] = []
        for is_big in (False, True):
            group = [self._addition(file) for file in self._request.files if _is_big(file) is is_big]
            yield from self._upload(group)
            additions += group
        yield TransferProgress(status="pushing manifest")
        self._commit(head, additions, stale)
        yield TransferProgress(status="success")

    def _make_branch(self) -> None:
        """Make the repository and the branch unless they are there."""
        repo, branch, private = self._name.repo, self._name.revision, self._request.private
        try:
            repo = self._patiently(lambda: self._hub.commit(ModelName(repo))).repo
            self._name = ModelName(repo, branch)
            if private is not None and self._patiently(lambda: self._api.model_info(repo)).private != private:
                now, wanted = ("public", "private") if private else ("private", "public")
                raise InvalidRequestError(
                    f"{repo} is {now}: make it {wanted} on its page first, or push without saying so", param="private"
                )
        except ModelNotFoundError:
            self._patiently(lambda: self._api.create_repo(repo, private=private, exist_ok=True))
        if branch != names.DEFAULT_REVISION:
            self._patiently(lambda: self._api.create_branch(repo, branch=branch, exist_ok=True))

    def _state(self) -> tuple[str, dict[str, RemoteFile]]:
        """The branch's commit, and its files by path."""
        head = self._patiently(lambda: self._hub.commit(self._name)).commit
        return head, {file.path: file for file in self._patiently(lambda: self._hub.files(self._name, head))}

    def _addition(self, file: PushFile) -> _Addition:
        """Opens and hashes the file."""
        if not file.source:
            return _Addition(CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=file.text.encode()), None)
        outgoing = self._open_files.enter_context(OutgoingFile(file.source))
        operation = CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=outgoing)
        outgoing.sent_bytes = 0  # hashing has read it, too
        return _Addition(operation, outgoing)

    def _upload(self, group: list[_Addition]) -> Iterator[TransferProgress]:
        """Send the big files of the group; the small ones travel inside of the commit. What is there is not sent."""
        if not group:
            return
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            work = pool.submit(
                self._api.preupload_lfs_files,
                self._name.repo,
                [addition.operation for addition in group],
                revision=self._name.revision,
                free_memory=False,
            )
            while not concurrent.futures.wait([work], _REPORT_EVERY_S).done:
                yield from self._moved(group)
        work.result()
        for addition in group:
            if addition.size_bytes:
                yield self._progress(addition, addition.size_bytes)

    def _moved(self, group: list[_Addition]) -> Iterator[TransferProgress]:
        """Who got further, or was sent anew, since it was reported last."""
        for addition in group:
            if addition.outgoing and (sent := addition.outgoing.sent_bytes) != self._sent_bytes.get(addition.path, 0):
                yield self._progress(addition, sent)

    def _progress(self, addition: _Addition, sent_bytes: int) -> TransferProgress:
        self._sent_bytes[addition.path] = sent_bytes
        return TransferProgress(
            status="pushing",
            file=addition.path,
            digest=addition.sha256,
            total_bytes=addition.size_bytes,
            completed_bytes=sent_bytes,
            overall_total_bytes=self._total_bytes,
            overall_completed_bytes=sum(self._sent_bytes.values()),
        )

    def _commit(self, head: str, additions: list[_Addition], stale: Iterable[str]) -> None:
        """Make the commit on top of `head`. A reply that is lost says nothing of the commit, so that is looked up."""
        deletions = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in stale]
        failures = 0
        while True:
            try:
                self._api.create_commit(
                    self._name.repo,
                    [*(addition.operation for addition in additions), *deletions],
                    commit_message="Push with Hugging Llama",
                    revision=self._name.revision,
                    parent_commit=head,
                )
                return
            except Exception as error:
                if self._is_transient(error) and self._is_done(head, additions):
                    return
                failures += 1
                self._pause_or_raise(error, failures)

    def _is_done(self, head: str, additions: list[_Addition]) -> bool:
        now, there = self._state()
        return now != head and all(
            addition.path in there and addition.is_same(there[addition.path]) for addition in additions
        )

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """The answer to a short question, asked again while the failure may go away."""
        failures = 0
        while True:
            try:
                return ask()
            except Exception as error:
                failures += 1
                self._pause_or_raise(error, failures)

    def _pause_or_raise(self, error: Exception, failures: int) -> None:
        ours = self._ours(error)
        if not isinstance(ours, TransientError) or self._policy.is_over(failures, ours):
            raise error
        time.sleep(self._policy.wait_s(failures, ours))

    def _is_transient(self, error: Exception) -> bool:
        return isinstance(self._ours(error), TransientError)

    def _ours(self, error: Exception) -> HuggingLlamaError | TransientError | None:
        return push_errors.as_ours(error, self._name.repo, self._request.access)


def _is_big(file: PushFile) -> bool:
    return _size(file) > _BIG_BYTES


def _size(file: PushFile) -> int:
    return os.path.getsize(file.source) if file.source else len(file.text.encode())
