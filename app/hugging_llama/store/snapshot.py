"""One model's folder as it lies on disk: its files, their identity, and reading small ones of them safely."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.store import layout, selection

_MAX_JSON_BYTES = 32 * 2**20
_MAX_FILES = 10_000
_WHOLE_HASH_BYTES = 16 * 2**20
_EDGE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a model: `path` inside the folder, `place` on disk, `blob` what names its content."""

    path: str
    size_bytes: int
    blob: str
    place: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files that the engine would read, by path; `plain` are those that are no links into the cache's blobs."""

    folder: str
    files: Mapping[str, SnapshotFile]
    weights: tuple[str, ...]
    plain: tuple[str, ...]

    @property
    def digest(self) -> str:
        """64 hex characters: another one for other files, the same for those that are named by the same hashes.

        The Hub's cache names a small file by its git hash and a big one by its sha256, an upload always by the latter;
        files that are no links are named here. So the same content may have two digests if it came on two ways.
        """
        text = "".join(f"{file.path}\0{file.blob}\n" for _, file in sorted(self.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """What the files take on disk."""
        return sum(file.size_bytes for file in self.files.values())

    def place(self, path: str) -> str:
        """Where one of the files lies on disk."""
        return self.files[path].place

    def json(self, path: str) -> dict[str, Any]:
        """A JSON object among the files; {} where it is missing, broken, too big or something else."""
        return read_object(self.place(path)) if path in self.files else {}

    def json_list(self, path: str) -> list[Any]:
        """A JSON list among the files; [] where it is missing, broken, too big or something else."""
        value = _any_json(self.place(path)) if path in self.files else None
        return value if isinstance(value, list) else []

    def content(self, path: str) -> bytes:
        """A small file among the files. Raises ValueError for a bigger one, OSError."""
        if path not in self.files:
            raise FileNotFoundError(path)
        return read_small(self.place(path))

    def text(self, path: str) -> str:
        """A text among the files; "" where it is missing or unreadable."""
        try:
            return self.content(path).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter's folder. `digest` is 64 hex characters, the same for the same content."""

    folder: str
    digest: str
    size_bytes: int


def read_snapshot(folder: str, *, allow_pickle: bool = False) -> Snapshot:
    """List a model's folder; one with pickled weights alone only for those who convert them (`allow_pickle`).

    Raises selection.NotServableError, also for links that lead elsewhere than into the blobs two folders above, if it
    is a folder of the Hub's cache or of our home; OSError.
    """
    found: dict[str, tuple[str, os.stat_result]] = {}
    for path in _walk(folder):
        full = os.path.join(folder, path)
        try:
            status = os.stat(full)
        except OSError:  # a link to a blob that is gone
            continue
        if stat.S_ISREG(status.st_mode):
            found[path] = (full, status)
    weights = selection.weight_files(found, lambda path: read_small(found[path][0]), allow_pickle=allow_pickle)
    index = selection.weight_index(found, allow_pickle=allow_pickle)
    selection.check_configuration(found)
    chosen = {*weights, index}  # an index may name thousands
    kept = [path for path in found if path in chosen or selection.is_support(path) or selection.is_code(path)]
    files: dict[str, SnapshotFile] = {}
    plain: list[str] = []
    blobs = _blobs_folder(folder)
    for path in kept:
        full, status = found[path]
        if _leads_out(full, blobs):
            raise selection.NotServableError(f"{path} is a link that leads out of the model")
        blob = _linked_blob(full)
        if blob is None:
            plain.append(path)
            blob = _fingerprint(full, status.st_size)
        files[path] = SnapshotFile(path, status.st_size, blob, full)
    return Snapshot(folder, files, weights, tuple(plain))


def read_adapter(folder: str) -> Adapter:
    """List an adapter's folder. Raises OSError, also for a link that leads elsewhere than into the blobs."""
    text, size_bytes = "", 0
    blobs = _blobs_folder(folder)
    for path in _walk(folder):
        full = os.path.join(folder, path)
        if _leads_out(full, blobs):
            raise OSError("a link leads out of the adapter")
        size = os.stat(full).st_size
        size_bytes += size
        text += f"{path}\0{_linked_blob(full) or _fingerprint(full, size)}\n"
    return Adapter(folder, hashlib.sha256(text.encode()).hexdigest(), size_bytes)


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file; {} where it is missing, broken, too big or something else."""
    value = _any_json(path)
    return value if isinstance(value, dict) else {}


def _any_json(path: str) -> Any:
    """None where it can't be read."""
    try:
        return json.loads(read_small(path))
    except (ValueError, RecursionError, OSError):
        return None


def read_small(path: str) -> bytes:
    """A whole file of at most 32 MB. Raises ValueError for a bigger one, OSError."""
    with open(path, "rb") as file:
        content = file.read(_MAX_JSON_BYTES + 1)
    if len(content) > _MAX_JSON_BYTES:
        raise ValueError("file is too big")
    return content


def _walk(folder: str) -> Iterator[str]:
    """Paths of the files in `folder` and in its direct subfolders; more depth has nothing that is loaded."""
    count = 0
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        children = [entry.name]
        if entry.is_dir(follow_symlinks=False):
            children = [f"{entry.name}/{child}" for child in sorted(os.listdir(entry.path))]
        for child in children:
            count += 1
            if count > _MAX_FILES:
                return
            if layout.is_safe_file(child):
                yield child


def _blobs_folder(folder: str) -> str:
    """Where the links of this folder may lead; "" for one of the operator's, whose links are the operator's, too."""
    blobs = os.path.realpath(os.path.join(folder, "..", "..", "blobs"))
    return blobs if os.path.isdir(blobs) else ""


def _leads_out(full: str, blobs: str) -> bool:
    """Whether this is a link to anything but a blob. Raises OSError."""
    if not blobs or not os.path.islink(full):
        return False
    target = os.path.join(os.path.dirname(full), os.readlink(full))
    return os.path.realpath(os.path.dirname(target)) != blobs


def _linked_blob(full: str) -> str | None:
    try:
        target = os.path.basename(os.readlink(full))
    except OSError:
        return None
    return target if layout.is_digest(target) else None


def _fingerprint(full: str, size: int) -> str:
    """Names a content that no blob's name tells. Of big files only both ends are read: it must not take seconds."""
    digest = hashlib.sha256(f"{size}\n".encode())
    with open(full, "rb") as file:
        if size <= _WHOLE_HASH_BYTES:
            while chunk := file.read(_EDGE_BYTES):
                digest.update(chunk)
        else:
            digest.update(file.read(_EDGE_BYTES))
            file.seek(-_EDGE_BYTES, os.SEEK_END)
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()
