"""The Hub's cache on disk: every path in it is made here, out of parts that were checked here.

<cache>/models--org--name/blobs/<digest>            contents, named by their hash
<cache>/models--org--name/snapshots/<commit>/<file> links to blobs
<cache>/models--org--name/refs/<revision>           a commit id
<cache>/.locks/models--org--name/<digest>.lock      held while a blob is written, also by other Hugging Face tools
"""

import os
import re
from dataclasses import dataclass

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import names

_FOLDER_PREFIX = "models--"
_SNAPSHOTS = "snapshots"
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FILE_PART = re.compile(r"[A-Za-z0-9_ @()\[\]+=,-][A-Za-z0-9_ .@()\[\]+=,-]*")
_MAX_FILE_PART = 200
_MAX_FILE_DEPTH = 8


def is_digest(text: str) -> bool:
    """Whether `text` can name a blob: the lower-case hex of a sha1 or a sha256."""
    return _DIGEST.fullmatch(text) is not None


def is_snapshot(folder: str) -> bool:
    """Whether a folder lies where the Hub's cache has that of a commit."""
    repo, snapshots = os.path.split(os.path.dirname(folder))
    return snapshots == _SNAPSHOTS and os.path.basename(repo).startswith(_FOLDER_PREFIX)


def is_safe_file(path: str) -> bool:
    """Whether a path from outside may be joined to a folder: relative, plain ASCII parts, no dot file, no `..`."""
    parts = path.split("/")
    return len(parts) <= _MAX_FILE_DEPTH and all(
        len(part) <= _MAX_FILE_PART and _FILE_PART.fullmatch(part) is not None for part in parts
    )


@dataclass(frozen=True, slots=True)
class RepoFolder:
    """One repository's folder in the cache. Methods raise ValueError for a part that must not become a path."""

    cache: str
    repo: str

    @property
    def name(self) -> str:
        """The folder's own name."""
        return _FOLDER_PREFIX + names.parse_repo(self.repo).replace("/", "--")

    @property
    def path(self) -> str:
        """The folder."""
        return os.path.join(self.cache, self.name)

    @property
    def blobs(self) -> str:
        """Where contents lie."""
        return os.path.join(self.path, "blobs")

    @property
    def refs(self) -> str:
        """Where branches and tags are."""
        return os.path.join(self.path, "refs")

    @property
    def snapshots(self) -> str:
        """Where commits are."""
        return os.path.join(self.path, _SNAPSHOTS)

    @property
    def no_exist(self) -> str:
        """Where huggingface_hub notes which files a commit does not have."""
        return os.path.join(self.path, ".no_exist")

    def blob(self, digest: str) -> str:
        """The content of this digest."""
        return os.path.join(self.blobs, _checked(digest, is_digest(digest)))

    def part(self, digest: str) -> str:
        """What has arrived so far of the content of this digest; the name never varies, so that a pull resumes."""
        return self.blob(digest) + ".part"

    def lock(self, digest: str) -> str:
        """The file to lock before `part` is touched."""
        return os.path.join(self.locks, _checked(digest, is_digest(digest)) + ".lock")

    @property
    def locks(self) -> str:
        """Where the locks of this repository lie."""
        return os.path.join(self.cache, ".locks", self.name)

    @property
    def pull_lock(self) -> str:
        """Locked together by all pulls of this repository from their beginning to the ref, and alone by a removal."""
        return os.path.join(self.locks, "pull.lock")

    def snapshot(self, commit: str) -> str:
        """The folder of one commit."""
        return os.path.join(self.snapshots, _checked(commit, names.is_commit(commit)))

    def pointer(self, commit: str, file: str) -> str:
        """The link to a blob that stands for `file` in a commit."""
        return os.path.join(self.snapshot(commit), *_checked(file, is_safe_file(file)).split("/"))

    def ref(self, revision: str) -> str:
        """The file that says which commit a branch or tag is."""
        try:
            return os.path.join(self.refs, *names.parse_revision(revision).split("/"))
        except InvalidRequestError as error:
            raise ValueError("not a revision") from error


def repo_of_folder(folder_name: str) -> str | None:
    """The repository whose folder has this name, or None if it is something else."""
    if not folder_name.startswith(_FOLDER_PREFIX):
        return None
    try:
        return names.parse_repo(folder_name.removeprefix(_FOLDER_PREFIX).replace("--", "/"))
    except InvalidRequestError:
        return None


def _checked(part: str, is_fine: bool) -> str:
    if not is_fine:
        raise ValueError("not a part of a path in the cache")
    return part
