"""The models on this machine: what the Hub's cache holds that can be served, the demo model that comes with us, and
those that users named, which are other ways to use one of these."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from hugging_llama.descriptors import check_descriptors
from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.neutral.models import LocalModel, ModelDetails, ModelRef
from hugging_llama.store import folders, names, pruning, snapshot
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.facts import FolderFacts
from hugging_llama.store.file_lock import locked
from hugging_llama.store.manifests import Manifest, Manifests, NamedModel, Source
from hugging_llama.store.names import ModelName
from hugging_llama.store.places import Place, Places
from hugging_llama.store.pull_slots import PullSlots
from hugging_llama_config.model_memory import ModelSize
from hugging_llama_config.settings import Settings

_LOCK_TIMEOUT_S = 20.0


class Store:
    """The local models. Safe for threads and greenlets; other processes may change the cache at any time.

    A folder is read again only when the time stamps of its snapshot or of its blobs moved.
    """

    def __init__(self, settings: Settings) -> None:
        self._home = os.path.abspath(settings.home) if settings.home else ""
        self._facts = FolderFacts()
        self.places = Places(settings)
        self._prunes = not settings.noprune
        self.blobs = Blobs(settings.home)
        self.named = Manifests(settings.home)
        self.pull_slots = PullSlots()

    def lock(self) -> AbstractContextManager[None]:
        """Held while what models are made of is counted and changed, by this process or another.

        Raises TimeoutError, OSError.
        """
        path = pruning.lock_file(self._home)
        return locked(path, _LOCK_TIMEOUT_S, private=True) if self._home else nullcontext()

    def list(self) -> list[LocalModel]:
        """All models that can do something here, newest first. What is broken or half there is left out.

        Raises EngineBusyError where nothing can be opened: all would seem to be gone.
        """
        own = list(self.named.all())
        taken = {named.manifest.name.lower() for named in own}
        places = [place for place in self.places.all() if place.name.lower() not in taken]
        models = [model for place in places if (model := self._model(place)) and model.capabilities]
        models += [model for named in own if (model := self._named_model(named)) and model.capabilities]
        check_descriptors()
        self._facts.keep_only({place.folder for place in places} | {model.ref.path for model in models})
        return sorted(models, key=lambda model: (-model.modified_at_s, model.ref.name))

    def resolve(self, name: str) -> LocalModel:
        """The model that `name` means; one that a user named goes before the Hub's.

        Raises InvalidRequestError for bad syntax, else ModelNotFoundError, for a named one whose base or adapter is
        gone with the name by which the Hub has that.
        """
        if named := self._find_named(name):
            if model := self._named_model(named):
                return model
            gone = self._gone(named.manifest)
            raise ModelNotFoundError(gone, gone)
        place = self.places.find(name)
        found = self._model(place) if place else None
        if found is None:
            raise ModelNotFoundError(name, name if names.is_path(name) else names.parse_name(name).display)
        return found

    def details(self, folder: str) -> ModelDetails | None:
        """What the files of a model in memory say, wherever they lie: another server may know the folder."""
        facts = self._facts.of(folder) if folder else None
        return facts.details if facts else None

    def stored_size(self, model: LocalModel) -> tuple[ModelSize, str]:
        """What decides the model's memory, and the dtype that its config.json names, "" if none.

        Raises ModelNotFoundError if its files are gone or damaged by now.
        """
        facts = self._facts.of(model.ref.path)
        if facts is None:
            raise ModelNotFoundError(model.ref.name, model.ref.name)
        return facts.size, facts.dtype

    def manifest(self, model: LocalModel) -> Manifest:
        """How `model` is made; one of the Hub is pinned to the commit that it is now. Raises ModelNotFoundError."""
        if not model.is_named:
            commit = "" if names.is_path(model.ref.name) else os.path.basename(model.ref.path)
            source = Source(base=model.ref.name, commit=commit if names.is_commit(commit) else "")
            return Manifest(name=model.ref.name, source=source)
        named = self._find_named(model.ref.name)
        if named is None:  # deleted while we looked
            raise ModelNotFoundError(model.ref.name, model.ref.name)
        return named.manifest

    def made_from(self, source: Source) -> LocalModel | None:
        """A model of these files as they are, without a name of its own; None if they are not here or can't be read."""
        place = self._source(source)
        return self._model(place) if place else None

    def find_adapter(self, name: str) -> tuple[Source, snapshot.Adapter] | None:
        """A repository of the Hub's cache, pinned to the commit that it is now, and its folder; None if it is not here.

        Nobody has looked whether it is an adapter. Raises InvalidRequestError for bad syntax, OSError.
        """
        place = self.places.of_hub(names.parse_name(name))
        if place is None:
            return None
        commit = os.path.basename(place.folder)
        source = Source(base=place.name, commit=commit if names.is_commit(commit) else "")
        return source, snapshot.read_adapter(place.folder)

    def save(self, manifest: Manifest) -> None:
        """Keep a named model, in place of the one that had its name, and what it is made of.

        Raises InvalidRequestError, also for a content that is gone; HuggingLlamaError for a home of a later version;
        TimeoutError if others change the models for long; OSError.
        """
        self.named.check(manifest)
        with self.lock():
            for source in manifest.sources:
                for digest in source.files.values():
                    if not self.blobs.has(digest):
                        raise InvalidRequestError(f'blob "sha256:{digest}" not found', param="files")
            self.named.write(manifest)

    def tidy(self) -> None:
        """What a server does once when it starts, in a thread of its own; see `pruning.tidy`."""
        if self._home:
            pruning.tidy(self._home, prunes=self._prunes)

    def is_of_hub(self, name: ModelName) -> bool:
        """Whether a model of the Hub's cache, or the demo model, answers to this name."""
        return self.named.find(name) is None and self.places.of_hub(name) is not None

    def other_names(self, name: str) -> tuple[str, ...]:
        """The full names besides this full one that mean the same model now: the demo model has a short one."""
        demo, short = ModelName(names.DEMO_REPO), ModelName(names.DEMO_SHORT)
        if name.lower() != demo.display or self.named.find(demo):
            return ()
        place = self.places.of_hub(short) if self.is_of_hub(short) else None
        return (short.display,) if place and place.name == demo.display else ()

    def stored_repo(self, repo: str) -> str:
        """`repo` in the spelling of the cache if it is there in any case of letters, else as it is."""
        return self.places.stored_repo(repo)

    def pinned_commits(self, repo: str) -> set[str]:
        """The commits of a repository that named models need, whatever its branches mean now."""
        return {
            source.commit
            for named in self.named.all()
            for source in named.manifest.sources
            if source.commit and names.parse_name(source.base).repo.lower() == repo.lower()
        }

    def _find_named(self, name: str) -> NamedModel | None:
        return None if names.is_path(name) else self.named.find(names.parse_name(name))

    def _named_model(self, named: NamedModel) -> LocalModel | None:
        """None if what it is made from is gone."""
        manifest = named.manifest
        place = self._source(manifest.source)
        base = self._model(place) if place else None
        if base is None:
            return None
        try:
            adapter = self._adapter(manifest.adapter) if manifest.adapter else None
        except OSError:
            return None
        is_named_whole = manifest.adapter is None or bool(manifest.adapter.base)
        return replace(
            named.over(base, adapter),
            made_from=self._name_again(manifest.source) if is_named_whole else "",
            adapter=self._name_again(manifest.adapter) if manifest.adapter else "",
        )

    def _gone(self, manifest: Manifest) -> str:
        """The name of what a model that can't be served lacks, its own where that has none."""
        for source in manifest.sources:
            if source.base and self._source(source) is None:
                return self._name_again(source)
        return manifest.source.base or manifest.name

    def _adapter(self, source: Source) -> snapshot.Adapter:
        """Raises OSError if it is not there."""
        place = self._source(source)
        if place is None:
            raise FileNotFoundError
        return snapshot.read_adapter(place.folder)

    def _name_again(self, source: Source) -> str:
        """The name that means this very source now, with the commit where the plain one means another; "" for files."""
        place = self.places.of_base(source.base) if source.base and source.commit else None
        if not source.commit or (place and os.path.basename(place.folder) == source.commit):
            return source.base
        return ModelName(names.parse_name(source.base).repo, source.commit).display

    def _source(self, source: Source) -> Place | None:
        if source.commit:
            return self.places.of_hub(ModelName(names.parse_name(source.base).repo, source.commit))
        if source.base:
            return self.places.of_base(source.base)
        try:
            folder = folders.make_folder(self._home, source.files)
            return Place("", folder, os.stat(folder).st_mtime)
        except (OSError, ValueError):
            return None

    def _model(self, place: Place) -> LocalModel | None:
        facts = self._facts.of(place.folder)
        if facts is None:
            return None
        return LocalModel(
            ref=ModelRef(name=place.name, path=place.folder, digest=facts.digest),
            size_bytes=facts.size_bytes,
            modified_at_s=place.modified_at_s,
            details=facts.details,
            capabilities=facts.capabilities,
        )
