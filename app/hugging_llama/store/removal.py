"""Models taken off the disk: what each alone needed goes, and nothing else. The caller holds the store's lock."""

import contextlib
import os
from dataclasses import dataclass

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.store import durable, folders, layout, names, places, selection
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest
from hugging_llama.store.names import ModelName
from hugging_llama.store.repo_removal import remove_revision
from hugging_llama_config.settings import Settings

_RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Removed:
    """The canonical name of a model that was there, the bytes that went, and its folder if that has gone, too."""

    name: str
    freed_bytes: int
    lost_folder: str


def remove_model(settings: Settings, store: Store, name: str) -> Removed | None:
    """Remove a model or an adapter of the Hub's cache, or the model that a user gave this name; None if there is none.

    What was interrupted is finished by the next call. Raises InvalidRequestError for what can't be removed, OSError.
    """
    place = store.places.find(name)
    if names.is_path(name):
        if place:
            raise InvalidRequestError(
                "this model lies in a folder of the server's operator, who can delete it there", param="model"
            )
        return None
    removal = _ModelRemoval(settings, store)
    # first, as it goes first everywhere; one that is half removed is no model any more, and still is what is meant
    if removed := removal.remove_named(names.parse_name(name)):
        return removed
    if place and place.name == ModelName(names.DEMO_REPO).display:
        raise InvalidRequestError("the demo model comes with the server and can't be deleted", param="model")
    if place and os.path.isdir(place.folder):
        try:
            store.resolve(name)
        except ModelNotFoundError:  # nothing that this server would have listed
            if not _is_material(os.listdir(place.folder), settings.allow_pickle):
                return None
    if place:
        return removal.remove_hub(names.parse_name(place.name), place.folder)
    return removal.remove_hub(names.parse_name(name), "")


class _ModelRemoval:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._cache = os.path.abspath(settings.hub_cache) if settings.hub_cache else ""
        self._home = os.path.abspath(settings.home) if settings.home else ""
        self._store = store

    def remove_hub(self, name: ModelName, snapshot: str) -> Removed | None:
        if not self._cache:
            return None
        folder = RepoFolder(self._cache, self._store.stored_repo(name.repo))
        pinned = self._store.pinned_commits(folder.repo)
        freed = remove_revision(folder, name.revision, pinned)
        if freed is None:
            return None
        for commit in pinned:
            if self._home and os.path.isdir(folder.snapshot(commit)):
                durable.replace_file(self._released(folder, commit), b"")
        freed += self._remove_released()
        return Removed(ModelName(folder.repo, name.revision).display, freed, _if_gone(snapshot))

    def remove_named(self, name: ModelName) -> Removed | None:
        named = self._store.named.retire(name)
        if named is None:
            return None
        files = named.manifest.source.files
        folder = folders.folder_path(self._home, files) if files else ""
        freed = self._remove_files(named.manifest)
        freed += self._remove_released()
        return Removed(named.manifest.name, freed + self._store.named.forget(name), _if_gone(folder))

    def _remove_files(self, manifest: Manifest) -> int:
        """The folders and blobs that no other model is made of; none while a manifest can't be read: nobody knows
        what it needs, and pruning takes them once that is known."""
        kept = self._store.named.sources()
        if kept is None:
            return 0
        used = {digest for source in kept for digest in source.files.values()}
        freed = 0
        for source in manifest.sources:
            if source.files and all(source.files != other.files for other in kept):
                folders.remove_folder(folders.folder_path(self._home, source.files))
            for digest in set(source.files.values()) - used:
                path = folders.blob_path(self._home, digest)
                with contextlib.suppress(FileNotFoundError):
                    size = os.lstat(path).st_size
                    os.unlink(path)
                    freed += size
        return freed

    def _remove_released(self) -> int:
        """The commits that stayed for named models alone when the Hub's own was deleted, and that none needs now: those
        were deleted or made anew from something else."""
        freed = 0
        for mark in _list(os.path.join(self._home, _RELEASED)) if self._home else ():
            folder_name, _, commit = mark.rpartition("--")
            repo = layout.repo_of_folder(folder_name)
            pinned = self._store.pinned_commits(repo) if repo else set()
            if repo is None or not names.is_commit(commit) or commit in pinned:
                continue
            folder = RepoFolder(self._cache, repo)
            try:
                freed += remove_revision(folder, commit, pinned) or 0
            except InvalidRequestError:
                if not _has_name(folder, commit):  # it is being pulled: the next removal comes back to it
                    continue
            os.unlink(self._released(folder, commit))
        return freed

    def _released(self, folder: RepoFolder, commit: str) -> str:
        return os.path.join(self._home, _RELEASED, f"{folder.name}--{commit}")


def _is_material(paths: list[str], allow_pickle: bool) -> bool:
    """Whether this is what models are made of: a pull may have left it, of whatever use it is."""
    weights = {selection.WEIGHTS, selection.INDEX, selection.MODULES}
    if allow_pickle:
        weights |= {selection.PICKLED, selection.PICKLED_INDEX}
    return selection.is_adapter(paths) or not weights.isdisjoint(paths)


def _has_name(folder: RepoFolder, commit: str) -> bool:
    """Whether a branch or tag means the commit now."""
    return any(places.read_ref(os.path.join(folder.refs, ref))[0] == commit for ref in places.revisions(folder))


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _if_gone(folder: str) -> str:
    return "" if os.path.isdir(folder) else folder
