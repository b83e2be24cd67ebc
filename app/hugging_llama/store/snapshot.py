"""One model's folder as it lies on disk: its files, their identity, and reading small ones of them safely."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hugging_llama.store import layout, selection
from hugging_llama_config.regular_file import open_regular
from hugging_llama_config.small_files import TooManyValuesError, is_json, parse_json, size_problem, values_problem

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
    """The files that the engine would read, by path; `plain` are those that are no links into the cache's blobs.
    `documents` are texts for people beside them, licences and read-mes."""

    folder: str
    files: Mapping[str, SnapshotFile]
    weights: tuple[str, ...]
    plain: tuple[str, ...]
    documents: tuple[str, ...] = ()

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
        value = self._any_json(path)
        return value if isinstance(value, dict) else {}

    def json_list(self, path: str) -> list[Any]:
        """A JSON list among the files; [] where it is missing, broken, too big or something else."""
        value = self._any_json(path)
        return value if isinstance(value, list) else []

    def _any_json(self, path: str) -> Any:
        """None where it can't be read."""
        return _any_json(os.path.basename(path), self.place(path)) if path in self.files else None

    def content(self, path: str) -> bytes:
        """A small file among the files. Raises ValueError for a bigger one, TooManyValuesError for JSON that holds too
        much, OSError."""
        if path not in self.files:
            raise FileNotFoundError(path)
        name = os.path.basename(path)
        if problem := size_problem(name, self.files[path].size_bytes):
            raise ValueError(problem)
        content = read_small(self.place(path))
        if is_json(name) and (problem := values_problem(name, content)):
            raise TooManyValuesError(problem)
        return content

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

    Raises selection.NotServableError, also where a file that is read is a pipe or a device, or where a link in a folder
    of the Hub's cache or of our home leads elsewhere than into the blobs two folders above; OSError.
    """
    found: dict[str, tuple[str, os.stat_result]] = {}
    strange: dict[str, selection.NotServableError] = {}
    bounds = _bounds(folder)
    for path in _walk(folder):
        full = os.path.join(folder, path)
        try:
            status = _status(full, bounds)
        except OSError:  # a link to a blob that is gone
            continue
        except selection.NotServableError as error:
            if os.path.isdir(full):  # libraries open by name what lies in it
                raise
            strange[path] = error
            continue
        if stat.S_ISREG(status.st_mode):
            found[path] = (full, status)
    weights = selection.weight_files(found, lambda path: read_small(found[path][0]), allow_pickle=allow_pickle)
    index = selection.weight_index(found, allow_pickle=allow_pickle)
    selection.check_configuration(found)
    chosen = {*weights, index}  # an index may name thousands
    for path, reason in strange.items():
        if selection.is_support(path) or selection.is_code(path) or selection.is_document(path):
            raise reason
    kept = [path for path in found if path in chosen or selection.is_support(path) or selection.is_code(path)]
    files: dict[str, SnapshotFile] = {}
    plain: list[str] = []
    for path in kept:
        full, status = found[path]
        blob = _linked_blob(full)
        if blob is None:
            plain.append(path)
            blob = _fingerprint(full, status.st_size)
        files[path] = SnapshotFile(path, status.st_size, blob, full)
    return Snapshot(folder, files, weights, tuple(plain), tuple(filter(selection.is_document, found)))


def read_adapter(folder: str) -> Adapter:
    """List an adapter's folder. Raises OSError, also for what `read_snapshot` allows no model to have."""
    text, size_bytes = "", 0
    try:
        bounds = _bounds(folder)
        sizes = {path: _status(os.path.join(folder, path), bounds).st_size for path in _walk(folder)}
    except selection.NotServableError as error:
        raise OSError(str(error)) from None
    for path, size in sizes.items():
        full = os.path.join(folder, path)
        size_bytes += size
        text += f"{path}\0{_linked_blob(full) or _fingerprint(full, size)}\n"
    return Adapter(folder, hashlib.sha256(text.encode()).hexdigest(), size_bytes)


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in a configuration; {} where it is missing, broken, too big or something else."""
    value = _any_json(os.path.basename(path), path)
    return value if isinstance(value, dict) else {}


def _any_json(name: str, place: str) -> Any:
    """None where it can't be read."""
    try:
        return parse_json(name, read_small(place))
    except (ValueError, RecursionError, OSError):
        return None


def read_small(path: str) -> bytes:
    """A whole file of at most 32 MB. Raises ValueError for a bigger one, OSError."""
    with open_regular(path) as file:
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


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Where a folder's links may lead: to files of its own, and to what stands in `blobs`, be it on another disk:
    no model brings a link there."""

    own: str
    blobs: str

    def has(self, link: str) -> bool:
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        if os.path.realpath(os.path.dirname(target)) == self.blobs and not os.path.isdir(link):
            return True
        real = os.path.realpath(link)
        return real.startswith(self.own + os.sep) or os.path.dirname(real) == self.blobs


def _bounds(folder: str) -> _Bounds | None:
    """None for a folder of the operator's, whose links are the operator's, too. Raises NotServableError for a folder
    that lies elsewhere itself."""
    folder = os.path.abspath(folder)
    top = os.path.realpath(os.path.dirname(os.path.dirname(folder)))
    blobs = os.path.realpath(os.path.join(top, "blobs"))
    if not layout.is_snapshot(folder) and not os.path.isdir(blobs):
        return None
    own = os.path.realpath(folder)
    if own != os.path.join(top, *folder.split(os.sep)[-2:]):
        raise selection.NotServableError("its folder is a link that leads out of the repository")
    return _Bounds(own, blobs)


def _status(full: str, bounds: _Bounds | None) -> os.stat_result:
    """Of a file or a folder. Raises NotServableError for anything else, also behind a link, and for a link that leads
    out; OSError."""
    status = os.stat(full)
    name = os.path.basename(full)
    if bounds and os.path.islink(full) and not bounds.has(full):
        raise selection.NotServableError(f"{name} is a link that leads out of the model")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise selection.NotServableError(f"{name} is no regular file")
    return status


def _linked_blob(full: str) -> str | None:
    try:
        target = os.path.basename(os.readlink(full))
    except OSError:
        return None
    return target if layout.is_digest(target) else None


def _fingerprint(full: str, size: int) -> str:
    """Names a content that no blob's name tells. Of big files only both ends are read: it must not take seconds."""
    digest = hashlib.sha256(f"{size}\n".encode())
    with open_regular(full) as file:
        if size <= _WHOLE_HASH_BYTES:
            while chunk := file.read(_EDGE_BYTES):
                digest.update(chunk)
        else:
            digest.update(file.read(_EDGE_BYTES))
            file.seek(-_EDGE_BYTES, os.SEEK_END)
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()
