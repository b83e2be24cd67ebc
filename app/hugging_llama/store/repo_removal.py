"""Takes a model of the Hub's cache away: its ref, and of the rest no more than nothing else needs.

First the snapshots get another name, which ends the model; then its ref goes, then contents that no snapshot links to,
at last the renamed snapshots. Whatever is interrupted in between is finished by the next removal of the same name.
Links are taken away and never followed.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import durable, layout, names, places
from hugging_llama.store.file_lock import FileLock
from hugging_llama.store.layout import RepoFolder

_DOOMED = ".deleted-"


def remove_revision(folder: RepoFolder, revision: str, pinned: Collection[str]) -> int | None:
    """Remove a branch, tag or commit of a repository, as the cache spells it; returns the bytes that went.

    None if it is not there, nor anything that an interrupted removal or first pull has left. The commits in `pinned`
    stay. Raises InvalidRequestError if it is being pulled, is needed under another name or is a link to another place;
    OSError.
    """
    if not os.path.lexists(folder.path):
        return None
    _refuse_links(folder)
    with FileLock(folder.pull_lock) as lock:
        if not lock.acquire() or _is_being_written(folder):
            raise InvalidRequestError(f"{folder.repo} is being pulled: delete it when that has ended", param="model")
        return _Removal(folder).run(revision, pinned)


class _Removal:
    """One removal, under the lock."""

    def __init__(self, folder: RepoFolder) -> None:
        self._folder = folder
        paths = {ref: os.path.join(folder.refs, ref) for ref in places.revisions(folder)}
        self._refs = {ref: places.read_ref(path)[0] or "" for ref, path in paths.items()}
        self._freed = 0

    def run(self, revision: str, pinned: Collection[str]) -> int | None:
        doomed = self._doomed(revision, pinned)
        if doomed is None:
            return None
        is_there = revision in self._refs or bool(doomed) or self._is_interrupted()
        for commit in doomed:
            doomed_name = f"{_DOOMED}{commit}.{os.urandom(4).hex()}"
            os.rename(self._folder.snapshot(commit), os.path.join(self._folder.snapshots, doomed_name))
        if doomed:
            durable.sync_folder(self._folder.snapshots)
        if revision in self._refs:
            self._remove_ref(revision)
        self._remove_blobs()
        for entry in _entries(self._folder.snapshots):
            if entry.name.startswith(_DOOMED):
                commit = entry.name.removeprefix(_DOOMED).partition(".")[0]
                self._remove_tree(os.path.join(self._folder.no_exist, commit))
                self._remove_tree(entry.path)
        self._remove_empty_repo()
        return self._freed if is_there or self._freed or not os.path.lexists(self._folder.path) else None

    def _is_interrupted(self) -> bool:
        return any(entry.name.startswith(_DOOMED) for entry in _entries(self._folder.snapshots))

    def _doomed(self, revision: str, pinned: Collection[str]) -> list[str] | None:
        """The commits to remove; None if there is nothing to do at all: what lies about beside other revisions may be
        theirs, half updated."""
        commits = [entry.name for entry in _entries(self._folder.snapshots) if names.is_commit(entry.name)]
        if revision in self._refs:
            needed = {commit for ref, commit in self._refs.items() if ref != revision}.union(pinned)
            return [commit for commit in commits if commit not in needed]
        if revision in commits:
            self._check_unneeded(revision, pinned)
            return [revision]
        return [] if not self._refs or self._is_interrupted() else None

    def _check_unneeded(self, commit: str, pinned: Collection[str]) -> None:
        if commit in pinned:
            raise InvalidRequestError(
                "models that were made from this commit need it: delete them first", param="model"
            )
        for ref, meant in self._refs.items():
            if meant == commit:
                name = names.ModelName(self._folder.repo, ref).display
                raise InvalidRequestError(f"this commit is {name}: delete that", param="model")

    def _remove_ref(self, revision: str) -> None:
        path = self._folder.ref(revision)
        os.unlink(path)
        parent = os.path.dirname(path)
        durable.sync_folder(parent)
        while parent != self._folder.refs:
            with contextlib.suppress(OSError):  # another ref is in it
                os.rmdir(parent)
            parent = os.path.dirname(parent)

    def _remove_blobs(self) -> None:
        """What no snapshot links to, unless somebody has begun to write it just now."""
        used = set(self._linked())
        for entry in _entries(self._folder.blobs):
            digest = entry.name.partition(".")[0]  # of `<digest>.part` and `<digest>….incomplete`, too
            if entry.name in used or not layout.is_digest(digest) or entry.is_dir(follow_symlinks=False):
                continue
            with FileLock(self._folder.lock(digest)) as lock:
                if lock.acquire():
                    self._unlink(entry.path)

    def _linked(self) -> Iterator[str]:
        """The names of the blobs that the snapshots which stay have links to."""
        for entry in _entries(self._folder.snapshots):
            if entry.name.startswith(_DOOMED):
                continue
            for base, folders, files in os.walk(entry.path):
                for name in (*folders, *files):
                    with contextlib.suppress(OSError):  # no link
                        yield os.path.basename(os.readlink(os.path.join(base, name)))

    def _remove_empty_repo(self) -> None:
        if places.revisions(self._folder) or _entries(self._folder.snapshots):
            return
        self._remove_tree(self._folder.no_exist)
        with contextlib.suppress(OSError):  # something of others is in it
            for path in (self._folder.refs, self._folder.snapshots, self._folder.blobs):
                _remove_empty_folders(path)
            os.rmdir(self._folder.path)
            shutil.rmtree(self._folder.locks)

    def _remove_tree(self, path: str) -> None:
        if os.path.islink(path):
            os.unlink(path)
            return
        for base, _, files in os.walk(path):
            for name in files:
                self._unlink(os.path.join(base, name))
        shutil.rmtree(path, ignore_errors=True)

    def _unlink(self, path: str) -> None:
        status = os.lstat(path)
        os.unlink(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            self._freed += status.st_size


def _refuse_links(folder: RepoFolder) -> None:
    parts = (folder.path, folder.refs, folder.snapshots, folder.blobs, folder.no_exist, folder.locks)
    if any(os.path.islink(path) for path in parts):
        raise InvalidRequestError(
            f"the folder of {folder.repo} is a link to another place: delete it there, on the server's machine",
            param="model",
        )


def _is_being_written(folder: RepoFolder) -> bool:
    for entry in _entries(folder.locks):
        if entry.name.endswith(".lock") and entry.path != folder.pull_lock:
            with FileLock(entry.path) as lock:
                if not lock.acquire():
                    return True
    return False


def _remove_empty_folders(path: str) -> None:
    """Raises OSError if a file is in one of them."""
    for base, _, _ in os.walk(path, topdown=False):
        os.rmdir(base)


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
