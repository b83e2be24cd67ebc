"""Where models lie: revisions in the Hub's cache, the demo model that comes with us, the operator's folders."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hugging_llama.errors import InvalidRequestError
from hugging_llama.store import layout, names
from hugging_llama.store.names import ModelName
from hugging_llama_config.regular_file import open_regular
from hugging_llama_config.settings import Settings

_DEMO_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "demo_model")
_MAX_REF_BYTES = 100
# A folder that changed this recently may change again without its time stamp moving.
SETTLED_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """A model's canonical name and the folder where its files lie. `modified_at_s` is Unix time."""

    name: str
    folder: str
    modified_at_s: float


class Places:
    """All places of these settings, as they are now: other processes may change them at any time.

    The names of the cache's folders are kept for as long as its time stamp stands still.
    """

    def __init__(self, settings: Settings) -> None:
        self._cache = os.path.abspath(settings.hub_cache) if settings.hub_cache else ""
        self._roots = tuple(os.path.abspath(root) for root in settings.model_dirs)
        self._known: tuple[int, Mapping[str, list[str]]] = (0, {})

    def all(self) -> Iterator[Place]:
        """Every revision in the cache that has a name, the demo model, and the folders right below the operator's."""
        demo = ModelName(names.DEMO_REPO)
        if place := _bundled(demo):
            yield place
        for repo in sorted({repo for spellings in self._repos().values() for repo in spellings} - {demo.repo}):
            folder = layout.RepoFolder(self._cache, repo)
            for revision in revisions(folder):
                # a branch `latest` can't be asked for: the name means the default one
                if revision.lower() != names.DEFAULT_TAG and (place := _stored(folder, revision)):
                    yield place
        for root in self._roots:
            for path in _children(root):
                if place := self._local(path):
                    yield place

    def find(self, text: str) -> Place | None:
        """The place of a name, or of a path below a folder of the operator's. Raises InvalidRequestError.

        Where the operator names no folder, a path is no name.
        """
        if not self._roots:
            names.parse_name(text)
        return self.of_base(text)

    def of_base(self, text: str) -> Place | None:
        """The same for what a manifest is made from: what the operator no longer allows is not there."""
        if names.is_path(text):
            return self._local(names.parse_path(text))
        return self.of_hub(names.parse_name(text))

    def of_hub(self, wanted: ModelName) -> Place | None:
        """The revision of a repository in the cache, in any case of letters, or the demo model."""
        repo = self.stored_repo(wanted.repo)
        if repo.lower() == names.DEMO_REPO:
            return _bundled(wanted)
        folder = layout.RepoFolder(self._cache, repo)
        if self._cache and (place := _stored(folder, wanted.revision) or _stored_any_case(folder, wanted.revision)):
            return place
        if f"hugging-llama/{wanted.repo.lower()}" == names.DEMO_REPO:
            return _bundled(wanted)
        return None

    def stored_repo(self, repo: str) -> str:
        """`repo` in the spelling of the cache if it is there in any case of letters, else as it is."""
        if not self._cache or os.path.isdir(layout.RepoFolder(self._cache, repo).path):
            return repo
        return self._repos().get(repo.lower(), [repo])[0]

    def _repos(self) -> Mapping[str, list[str]]:
        """The repositories in the cache, in every spelling that is there, by their names in lower case."""
        try:
            changed_ns = os.stat(self._cache).st_mtime_ns if self._cache else 0
            if self._known[0] == changed_ns:
                return self._known[1]
            entries = sorted(os.listdir(self._cache))
        except OSError:
            return {}
        found: dict[str, list[str]] = {}
        for repo in filter(None, map(layout.repo_of_folder, entries)):
            found.setdefault(repo.lower(), []).append(repo)
        if time.time_ns() - changed_ns > SETTLED_NS:
            self._known = (changed_ns, found)
        return found

    def _local(self, path: str) -> Place | None:
        """The disk is asked only about what is below a root, and a link must not lead out of all of them."""
        if not any(_is_below(path, root) for root in self._roots):
            return None
        try:
            folder = os.path.realpath(path, strict=True)
            if not any(_is_below(folder, os.path.realpath(root)) for root in self._roots):
                return None
            return Place(path, folder, os.stat(folder).st_mtime) if os.path.isdir(folder) else None
        except OSError:
            return None


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


def _children(root: str) -> list[str]:
    try:
        found = [os.path.join(root, entry) for entry in sorted(os.listdir(root))]
    except OSError:
        return []
    return [path for path in found if _is_usable(path)]


def _is_usable(path: str) -> bool:
    try:
        return names.parse_path(path) == path
    except InvalidRequestError:
        return False


def _bundled(wanted: ModelName) -> Place | None:
    if wanted.revision != names.DEFAULT_REVISION:
        return None
    try:
        modified_at_s = os.stat(os.path.join(_DEMO_FOLDER, "config.json")).st_mtime
    except OSError:
        return None
    return Place(ModelName(names.DEMO_REPO).display, _DEMO_FOLDER, modified_at_s)


def _stored(folder: layout.RepoFolder, revision: str) -> Place | None:
    """The folder of a branch or tag that has a ref, or of a full commit id, with or without one."""
    try:
        commit, modified_at_s = read_ref(folder.ref(revision))
        if commit is None and names.is_commit(revision):
            commit, modified_at_s = revision, os.stat(folder.snapshot(revision)).st_mtime
        if commit is None:
            return None
        return Place(ModelName(folder.repo, revision).display, folder.snapshot(commit), modified_at_s)
    except (OSError, ValueError):
        return None


def _stored_any_case(folder: layout.RepoFolder, revision: str) -> Place | None:
    for stored in revisions(folder):
        if stored.lower() == revision.lower() and (place := _stored(folder, stored)):
            return place
    return None


def read_ref(path: str) -> tuple[str | None, float]:
    """What a ref says, and when it was written (Unix time); None where there is none."""
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_REF_BYTES)
            return content.decode("ascii", "replace").strip(), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None, 0.0


def revisions(folder: layout.RepoFolder) -> list[str]:
    """The branches and tags of a repository that have a ref."""
    found = []
    for base, _, files in os.walk(folder.refs):
        found += [os.path.relpath(os.path.join(base, file), folder.refs).replace(os.sep, "/") for file in files]
    return sorted(found)
