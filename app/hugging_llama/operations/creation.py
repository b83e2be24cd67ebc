"""What a model is made of, brought here if need be, and the stream that says how far its making is."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.neutral.events import EventStream
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import disk_errors, resolve_model
from hugging_llama.operations.transfer import pull_model
from hugging_llama.store import adapters, conversion_plan, folders, names, pickled, uploaded
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.conversion import convert_files, needs_conversion
from hugging_llama.store.manifests import Manifest, Source

_T = TypeVar("_T")
Steps = Generator[TransferProgress | EventStream[TransferProgress], None, _T]
"""Yields what is to be said, and streams that must end well before it goes on."""


class Creation:
    """The progress of a creation, an EventStream. Once closed it goes no further, and no model is written down."""

    def __init__(self, steps: Steps[None]) -> None:
        self._steps = steps
        self._followed: EventStream[TransferProgress] | None = None
        self._is_closed = False

    def __iter__(self) -> "Creation":
        return self

    def __next__(self) -> TransferProgress:
        while not self._is_closed:
            if self._followed is None:
                step = next(self._steps)
                if isinstance(step, TransferProgress):
                    return step
                self._followed = step
            elif progress := next(self._followed, None):
                if progress.status != "success":  # would end the stream for clients, and there is more to come
                    return progress
            elif not self._is_closed:
                self._followed = None
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End the creation, and what it waits for."""
        self._is_closed = True
        if followed := self._followed:
            followed.close()


@dataclass(frozen=True, slots=True)
class Made:
    """What a new model begins with: a manifest to change, and the model that these files are as they lie there.

    `digests` name the contents that it uses.
    """

    manifest: Manifest
    model: LocalModel
    digests: tuple[str, ...]


def made_of_model(ctx: AppContext, name: str) -> Steps[Made]:
    """Made of a model, which is pulled if it is not here, and of one with pickled weights what they convert to where
    the operator allows it. Raises what `resolve_model`, `pull_model` and `made_of_files` raise."""
    try:
        model = resolve_model(ctx, name)
    except ModelNotFoundError as error:
        missing = str(error.facts["name"])
        if names.is_path(missing):
            raise
        allow_pickle = ctx.settings.allow_pickle and bool(ctx.settings.home)
        yield pull_model(ctx, missing, allow_pickle=allow_pickle)
        place = ctx.store.places.of_hub(names.parse_name(missing))
        if allow_pickle and place and (files := pickled.take_files(ctx.store.blobs, place.folder)):
            return (yield from made_of_files(ctx, files))
        model = resolve_model(ctx, name)
    return Made(ctx.store.manifest(model), model, (model.ref.digest,))


def made_of_files(ctx: AppContext, files: Mapping[str, str]) -> Steps[Made]:
    """Made of uploaded files, sha256 by path, which are converted first if they are a GGUF file or pickled weights.

    Raises InvalidRequestError, InsufficientMemoryError for a conversion, TransferError if the disk fails,
    EngineShutdownError if the server ends before the conversion does.
    """
    _check_uploads(ctx, files, "files")
    if needs_conversion(files):
        conversion = convert_files(ctx.settings, ctx.store.blobs, files, ctx.store.pull_slots.check)
        yield conversion
        files = conversion.files
    source = Source(files=dict(files))
    with disk_errors():
        folder = run_blocking(folders.make_folder, ctx.settings.home, source.files)
        run_blocking(uploaded.check_model, folder)
    model = ctx.store.made_from(source)
    if model is None:
        raise InvalidRequestError("no model can be made of these files", param="files")
    return Made(Manifest(name="", source=source), model, tuple(dict.fromkeys(source.files.values())))


def adapter_of_files(ctx: AppContext, files: Mapping[str, str], base: LocalModel) -> Source:
    """An uploaded LoRA, sha256 by path, for `base`. Raises InvalidRequestError, TransferError if the disk fails."""
    if conversion_plan.has_gguf(files):
        raise InvalidRequestError(
            "GGUF adapters can't be used; upload adapter_config.json and adapter_model.safetensors as peft writes them",
            param="adapters",
        )
    if sum(path.endswith(".safetensors") for path in files) > 1:
        raise InvalidRequestError("only one adapter is currently supported", param="adapters")
    _check_uploads(ctx, files, "adapters")
    with disk_errors():
        run_blocking(adapters.check_adapter, folders.make_folder(ctx.settings.home, files), base)
    return Source(files=dict(files))


def adapter_of_hub(ctx: AppContext, name: str, base: LocalModel) -> Steps[tuple[Source, str]]:
    """A LoRA of the Hub for `base`, pulled if it is not here, and its digest.

    Raises what `pull_model` raises, and InvalidRequestError for one that does not fit.
    """
    with disk_errors():
        found = ctx.store.find_adapter(name)
    if found is None:
        yield pull_model(ctx, name, kind="adapter")
        with disk_errors():
            found = ctx.store.find_adapter(name)
    if found is None:
        raise ModelNotFoundError(name, name)
    source, adapter = found
    with disk_errors():
        run_blocking(adapters.check_adapter, adapter.folder, base)
    return source, adapter.digest


def _check_uploads(ctx: AppContext, files: Mapping[str, str], param: str) -> None:
    if not ctx.settings.home:
        raise InvalidRequestError("this server has no folder for uploads: set HUGGING_LLAMA_HOME", param=param)
    uploaded.check_names(files, param)
    for digest in files.values():
        if not ctx.store.blobs.has(digest):
            raise InvalidRequestError(f'blob "sha256:{digest}" not found', param=param)
