"""The models on this machine: what the Hub's cache holds that can be served, the demo model that comes with us, and
those that users named, which are other ways to use one of these."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hugging_llama.errors import ModelNotFoundError
from hugging_llama.neutral.models import Capability, LocalModel, ModelDetails, ModelRef
from hugging_llama.store import folders, layout, names, snapshot
from hugging_llama.store.capabilities import capabilities
from hugging_llama.store.details import model_details
from hugging_llama.store.manifests import Manifest, Manifests, NamedModel, Source
from hugging_llama.store.names import ModelName
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama.store.safetensors_header import BadSafetensorsError
from hugging_llama.store.selection import NotServableError
from hugging_llama_config.settings import Settings

_DEMO_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "demo_model")
# A folder that changed this recently may change again without its time stamp moving.
_SETTLED_NS = 100_000_000

_Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A revision of a repository and the folder where its files lie."""

    name: ModelName
    folder: str
    modified_at_s: float


@dataclass(frozen=True, slots=True)
class _Facts:
    """What reading a folder told, and the time stamps that tell whether it is still so."""

    stamp: _Stamp
    plain: tuple[str, ...]
    digest: str
    size_bytes: int
    details: ModelDetails | None
    capabilities: tuple[Capability, ...]


class Store:
    """The local models. Safe for threads and greenlets; other processes may change the cache at any time.

    A folder is read again only when the time stamps of its snapshot or of its blobs moved.
    """

    def __init__(self, settings: Settings) -> None:
        self._cache = os.path.abspath(settings.hub_cache) if settings.hub_cache else ""
        self._home = os.path.abspath(settings.home) if settings.home else ""
        self._facts: dict[str, _Facts] = {}
        self.named = Manifests(settings.home)
        self.pull_slots = PullSlots()

    def list(self) -> list[LocalModel]:
        """All models that can do something here, newest first. What is broken or half there is left out."""
        places = list(self._places())
        for gone in self._facts.keys() - {place.folder for place in places}:
            self._facts.pop(gone, None)
        models = [model for place in places if (model := self._model(place)) and model.capabilities]
        models += [model for named in self.named.all() if (model := self._named_model(named)) and model.capabilities]
        return sorted(models, key=lambda model: (-model.modified_at_s, model.ref.name))

    def resolve(self, name: str) -> LocalModel:
        """The model that `name` means; one of the Hub goes before one that a user named.

        Raises InvalidRequestError for bad syntax, else ModelNotFoundError, for a named one whose base is gone with
        the name of that.
        """
        wanted = names.parse_name(name)
        place = self._find(wanted)
        if place is None and (named := self.named.find(wanted)):
            if model := self._named_model(named):
                return model
            gone = named.manifest.source.base or named.manifest.name
            raise ModelNotFoundError(gone, gone)
        found = self._model(place) if place else None
        if found is None:
            raise ModelNotFoundError(name, wanted.display)
        return found

    def manifest(self, model: LocalModel) -> Manifest:
        """How `model` is made; one of the Hub is pinned to the commit that it is now. Raises ModelNotFoundError."""
        if not model.is_named:
            commit = os.path.basename(model.ref.path)
            source = Source(base=model.ref.name, commit=commit if names.is_commit(commit) else "")
            return Manifest(name=model.ref.name, source=source)
        named = self.named.find(names.parse_name(model.ref.name))
        if named is None:  # deleted while we looked
            raise ModelNotFoundError(model.ref.name, model.ref.name)
        return named.manifest

    def is_of_hub(self, name: ModelName) -> bool:
        """Whether a model of the Hub's cache, or the demo model, answers to this name."""
        return self._find(name) is not None

    def stored_repo(self, repo: str) -> str:
        """`repo` in the spelling of the cache if it is there in any case of letters, else as it is."""
        if not self._cache or os.path.isdir(layout.RepoFolder(self._cache, repo).path):
            return repo
        return next((stored for stored in sorted(self._folders()) if stored.lower() == repo.lower()), repo)

    def _named_model(self, named: NamedModel) -> LocalModel | None:
        """None if what it is made from is gone, or if the Hub has a model of its name by now."""
        if self._find(names.parse_name(named.manifest.name)):
            return None
        place = self._source(named.manifest.source)
        base = self._model(place) if place else None
        if base is None or named.manifest.adapter is None:
            return named.over(base, "", "") if base else None
        adapter = self._source(named.manifest.adapter)
        try:
            return named.over(base, adapter.folder, snapshot.adapter_digest(adapter.folder)) if adapter else None
        except OSError:
            return None

    def _source(self, source: Source) -> _Place | None:
        if source.base:
            name = names.parse_name(source.base)
            if not source.commit:
                return self._find(name)
            place = self._find(ModelName(name.repo, source.commit))
            return replace(place, name=name) if place else None
        try:
            folder = folders.make_folder(self._home, source.files)
            return _Place(ModelName("files"), folder, os.stat(folder).st_mtime)
        except (OSError, ValueError):
            return None

    def _model(self, place: _Place) -> LocalModel | None:
        facts = self._read(place.folder)
        if facts is None or facts.details is None:
            return None
        return LocalModel(
            ref=ModelRef(name=place.name.display, path=place.folder, digest=facts.digest),
            size_bytes=facts.size_bytes,
            modified_at_s=place.modified_at_s,
            details=facts.details,
            capabilities=facts.capabilities,
        )

    def _read(self, folder: str) -> _Facts | None:
        known = self._facts.get(folder)
        try:
            if known and known.stamp == _stamp(folder, known.plain):
                return known
            before = _stamp(folder, ())
            facts = _inspect(folder)
            if facts.stamp[: len(before)] == before and time.time_ns() - max(facts.stamp) > _SETTLED_NS:
                self._facts[folder] = facts
            return facts
        except OSError:  # taken away while we looked
            return None

    def _places(self) -> Iterator[_Place]:
        demo = ModelName(names.DEMO_REPO)
        if place := _bundled(demo):
            yield place
        for repo in sorted(self._folders() - {demo.repo}):
            folder = layout.RepoFolder(self._cache, repo)
            for revision in _revisions(folder):
                if place := _stored(folder, revision):
                    yield place

    def _find(self, wanted: ModelName) -> _Place | None:
        repo = self.stored_repo(wanted.repo)
        if repo.lower() == names.DEMO_REPO:
            return _bundled(wanted)
        folder = layout.RepoFolder(self._cache, repo)
        if self._cache and (place := _stored(folder, wanted.revision) or _stored_any_case(folder, wanted.revision)):
            return place
        if f"hugging-llama/{wanted.repo.lower()}" == names.DEMO_REPO:
            return _bundled(wanted)
        return None

    def _folders(self) -> set[str]:
        try:
            entries = os.listdir(self._cache) if self._cache else []
        except OSError:
            return set()
        return {repo for entry in entries if (repo := layout.repo_of_folder(entry))}


def _bundled(wanted: ModelName) -> _Place | None:
    if wanted.revision != names.DEFAULT_REVISION:
        return None
    try:
        modified_at_s = os.stat(os.path.join(_DEMO_FOLDER, "config.json")).st_mtime
    except OSError:
        return None
    return _Place(ModelName(names.DEMO_REPO), _DEMO_FOLDER, modified_at_s)


def _stored(folder: layout.RepoFolder, revision: str) -> _Place | None:
    """The folder of a branch or tag that has a ref, or of a full commit id, with or without one."""
    try:
        ref = folder.ref(revision)
        commit, modified_at_s = _read_ref(ref)
        if commit is None and names.is_commit(revision):
            commit, modified_at_s = revision, os.stat(folder.snapshot(revision)).st_mtime
        if commit is None:
            return None
        return _Place(ModelName(folder.repo, revision), folder.snapshot(commit), modified_at_s)
    except (OSError, ValueError):
        return None


def _stored_any_case(folder: layout.RepoFolder, revision: str) -> _Place | None:
    for stored in _revisions(folder):
        if stored.lower() == revision.lower() and (place := _stored(folder, stored)):
            return place
    return None


def _read_ref(path: str) -> tuple[str | None, float]:
    try:
        with open(path, "rb") as file:
            return file.read(100).decode("ascii", "replace").strip(), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None, 0.0


def _revisions(folder: layout.RepoFolder) -> list[str]:
    found = []
    for base, _, files in os.walk(folder.refs):
        found += [os.path.relpath(os.path.join(base, file), folder.refs).replace(os.sep, "/") for file in files]
    return sorted(found)


def _stamp(folder: str, plain: tuple[str, ...]) -> _Stamp:
    """Time stamps that move when a file of the model is added, replaced or taken away. Raises OSError.

    In the Hub's cache files are links into `blobs`, so both folders tell; files that are no links speak for themselves.
    """
    stamp = [os.stat(folder).st_mtime_ns]
    try:
        stamp.append(os.stat(os.path.join(folder, "..", "..", "blobs")).st_mtime_ns)
    except OSError:  # a folder outside of the Hub's cache
        stamp.append(0)
    for path in plain:
        stamp.append(os.stat(os.path.join(folder, path)).st_mtime_ns)
    return tuple(stamp)


def _inspect(folder: str) -> _Facts:
    """Read a model's folder. Raises OSError; what can't be served has no details."""
    try:
        found = snapshot.read_snapshot(folder)
        config = found.json("config.json")
        details = model_details(found, config)
        stamp = _stamp(folder, found.plain)
        return _Facts(stamp, found.plain, found.digest, found.size_bytes, details, capabilities(found, config))
    except (NotServableError, BadSafetensorsError, ValueError):
        return _Facts(_stamp(folder, ()), (), "", 0, None, ())
