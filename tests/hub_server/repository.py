"""What the stand-in Hub holds: repositories with branches and commits, accounts, and big files on their way."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

GOOD_TOKEN = "hf_good"
READ_TOKEN = "hf_read"
BAD_TOKEN = "hf_bad"
_POINTER_BYTES = 134


@dataclass(frozen=True)
class Account:
    """Who a token belongs to: may write below `name` and `orgs` if `can_write`."""

    name: str
    orgs: tuple[str, ...] = ()
    can_write: bool = True

    def may_write(self, repo: str) -> bool:
        return self.can_write and repo.partition("/")[0] in (self.name, *self.orgs)


@dataclass
class Repo:
    """A repository. `files` are those of `main`, and of the other `revisions` that have no branch of their own.

    `past` holds the trees of commits that a branch has left behind, so that they can still be read.
    """

    files: dict[str, bytes]
    access: str = "public"  # or gated, private
    revisions: tuple[str, ...] = ("main",)
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    past: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    downloads: int = 0
    last_modified: str = "2026-01-01T00:00:00.000Z"

    @property
    def commit(self) -> str:
        return commit_of(self.files)

    def tree(self, revision: str) -> dict[str, bytes] | None:
        """The files of a branch, tag or commit."""
        if revision in self.branches:
            return self.branches[revision]
        if revision in self.revisions or revision == self.commit:
            return self.files
        current = {commit_of(files): files for files in self.branches.values()}
        return current.get(revision) or self.past.get(revision)

    def put(self, branch: str, files: dict[str, bytes]) -> str:
        """Make `files` the new state of a branch; the commit's id."""
        before = self.tree(branch)
        if before is not None:
            self.past[commit_of(before)] = before
        if branch in self.branches or branch not in self.revisions:
            self.branches[branch] = files
        else:
            self.files = files
        return commit_of(files)


def commit_of(files: dict[str, bytes]) -> str:
    """The same id for the same files."""
    text = json.dumps([(path, git_sha1(data)) for path, data in sorted(files.items())])
    return hashlib.sha1(text.encode()).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".gguf"))


def digest_of(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if is_lfs(path) else git_sha1(data)


def tree_entry(path: str, data: bytes) -> dict[str, Any]:
    """A file as the list of a tree has it."""
    entry: dict[str, Any] = {"type": "file", "oid": git_sha1(data), "size": len(data), "path": path}
    if is_lfs(path):
        entry["lfs"] = {"oid": digest_of(path, data), "size": len(data), "pointerSize": _POINTER_BYTES}
    return entry


def sibling(path: str, data: bytes, *, with_blobs: bool) -> dict[str, Any]:
    """A file as the information about a repository has it."""
    entry: dict[str, Any] = {"rfilename": path}
    if with_blobs:
        entry |= {"size": len(data), "blobId": git_sha1(data)}
        if is_lfs(path):
            entry["lfs"] = {"sha256": digest_of(path, data), "size": len(data), "pointerSize": _POINTER_BYTES}
    return entry


def model_info(name: str, repo: Repo, revision: str, *, with_blobs: bool = False) -> dict[str, Any]:
    """What the Hub says of a repository at a revision that exists."""
    files = repo.tree(revision) or {}
    return {
        "_id": "0",
        "id": name,
        "modelId": name,
        "sha": commit_of(files),
        "private": repo.access == "private",
        "gated": "auto" if repo.access == "gated" else False,
        "lastModified": repo.last_modified,
        "downloads": repo.downloads,
        "likes": 0,
        "tags": list(repo.tags),
        "siblings": [sibling(path, data, with_blobs=with_blobs) for path, data in sorted(files.items())],
    }
