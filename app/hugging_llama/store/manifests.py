"""The models that users named: what each is made from and its defaults, one small JSON file a model.

<home>/models/<name>--<tag>.json
<home>/models/<org>--<name>--<tag>.json    in lower case: names are the same in any case of letters
"""

import dataclasses
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import LocalModel, RequestDefaults
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama.store import durable, folders, home_format, names, snapshot
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.capabilities import with_template
from hugging_llama.store.names import ModelName

FORMAT_VERSION: Literal[2] = 2
_MAX_BYTES = 4 * 2**20
_SUFFIX = ".json"
_Kind = TypeVar("_Kind")
_PARAMETERS = frozenset(field.name for field in dataclasses.fields(SamplingParams))


class Source(msgspec.Struct, frozen=True, kw_only=True, rename={"base": "from"}):
    """Where files come from: a repository of the Hub by its canonical name, or uploaded blobs.

    `commit` pins the repository, "" for whatever its revision means now; `files` are sha256 by path.
    """

    base: str = ""
    commit: str = ""
    files: dict[str, str] = {}

    def check(self) -> None:
        """Raises ValueError, InvalidRequestError, CloudModelError for what must not become a path."""
        if bool(self.base) == bool(self.files) or (self.commit and not names.is_commit(self.commit)):
            raise ValueError("a model is made of a repository or of files")
        if self.base:
            names.check_base(self.base)
        if self.commit and names.is_path(self.base):
            raise ValueError("a folder has no commits")
        folders.check(self.files)


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that comes before those of every chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. Format 1 had `from` instead of `source` and fewer fields.

    `name` is spelt as its user did; `quantization` is that of a ModelRef; `parameters` are SamplingParams fields;
    `template` is Jinja; `requires` is the least version of Ollama that the model needs.
    """

    version: Literal[2] = FORMAT_VERSION
    name: str
    source: Source
    adapter: Source | None = None
    quantization: Literal["", "none", "int8", "int4"] = ""
    parameters: dict[str, Any] = {}
    context_length: int | None = None
    system: str = ""
    template: str = ""
    messages: tuple[StoredMessage, ...] = ()
    licenses: tuple[str, ...] = ()
    requires: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it is made of: the model, and the adapter if it has one."""
        return (self.source, self.adapter) if self.adapter else (self.source,)


def _converter(kind: type[_Kind]) -> Callable[[object], _Kind]:
    """Makes plain values into `kind`, or raises msgspec.ValidationError.

    A decoder looks at all its types when it is made, here while this module is imported. Left to the first value,
    a thread may use a type that another one is still looking at: msgspec 0.22 crashes there.
    """
    msgspec.json.Decoder(kind)
    return functools.partial(msgspec.convert, type=kind)


_to_manifest = _converter(Manifest)
_to_message = _converter(StoredMessage)
_to_sampling = _converter(SamplingParams)
_NOTHING_SAID = Manifest(name="", source=Source())
_SAID = tuple(sorted(set(_NOTHING_SAID.__struct_fields__) - {"version", "name", "source", "adapter"}))


def stored_message(message: Message) -> StoredMessage:
    """Raises msgspec.ValidationError for a role that no stored turn has."""
    return _to_message({"role": message.role, "content": message.content})


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A manifest as it was read; `modified_at_s` is Unix time."""

    manifest: Manifest
    modified_at_s: float

    def over(self, base: LocalModel, adapter: snapshot.Adapter | None) -> LocalModel:
        """The model that requests get: the files of `base` under this name, with this quantization and defaults."""
        manifest = self.manifest
        ref = dataclasses.replace(
            base.ref,
            name=manifest.name,
            digest=self._digest(base.ref.digest, adapter.digest if adapter else ""),
            quantization=manifest.quantization,
            adapter=adapter.folder if adapter else "",
        )
        defaults = RequestDefaults(
            sampling=_sampling(manifest.parameters),
            context_length=manifest.context_length,
            system=manifest.system,
            template=manifest.template,
            messages=tuple(Message(role=turn.role, content=turn.content) for turn in manifest.messages),
        )
        return dataclasses.replace(
            base,
            ref=ref,
            size_bytes=base.size_bytes + (adapter.size_bytes if adapter else 0),
            modified_at_s=self.modified_at_s,
            is_named=True,
            parent=manifest.source.base,
            capabilities=with_template(base.capabilities, manifest.template),
            defaults=defaults,
            licenses=manifest.licenses,
            requires=manifest.requires,
        )

    def _digest(self, base_digest: str, adapter_digest: str) -> str:
        """The base's where nothing was said of the model, as in a copy; else one of that and of what was said, whatever
        its name and whatever the files are called where they come from."""
        said = {
            field: value for field in _SAID if (value := getattr(self.manifest, field)) != getattr(_NOTHING_SAID, field)
        }
        if not said and not adapter_digest:
            return base_digest
        content = msgspec.json.encode(said, order="deterministic")
        return hashlib.sha256(content + base_digest.encode("ascii") + adapter_digest.encode("ascii")).hexdigest()


class Manifests:
    """The named models of one home, "" for none. Several processes may share it; what can't be read is not there."""

    def __init__(self, home: str) -> None:
        self._home = os.path.abspath(home) if home else ""
        self._folder = os.path.join(self._home, "models") if home else ""

    def all(self) -> Iterator[NamedModel]:
        """Every named model, by name."""
        for file in self._files():
            if named := self._read(file):
                yield named

    def sources(self) -> list[Source] | None:
        """What all named models are made from, None if one of them can't be read."""
        models = [self._read(file) for file in self._files()]
        found = [named.manifest for named in models if named]
        if len(found) < len(models):
            return None
        return [source for manifest in found for source in manifest.sources]

    def find(self, name: ModelName) -> NamedModel | None:
        """The model of this name in any case of letters."""
        return self._read(_file(name)) if self._folder and names.is_own_name(name) else None

    def write(self, manifest: Manifest) -> NamedModel:
        """Keep a model, in place of the one that had its name.

        Raises InvalidRequestError; HuggingLlamaError for a home of a later version; OSError.
        """
        content = self.check(manifest)
        name = names.parse_own_name(manifest.name)
        run_blocking(durable.replace_file, os.path.join(self._folder, _file(name)), content)
        return NamedModel(manifest=manifest, modified_at_s=time.time())

    def check(self, manifest: Manifest) -> bytes:
        """What the file would hold, with a place to lie in. Raises what `write` raises; nothing is written."""
        if not self._folder:
            raise InvalidRequestError("this server has no folder for named models: set HUGGING_LLAMA_HOME")
        content = msgspec.json.format(msgspec.json.encode(manifest))
        if len(content) > _MAX_BYTES:
            raise InvalidRequestError(f"texts and parameters of a model may have {_MAX_BYTES} bytes")
        home_format.prepare(self._home)
        return content

    def retire(self, name: ModelName) -> NamedModel | None:
        """Take a model away, but keep what is known of it until `forget`, so that the rest can be cleared away.

        None if there is none, nor one whose removal was interrupted. Raises HuggingLlamaError for a home of a later
        version, OSError.
        """
        if not self._folder or not names.is_own_name(name):
            return None
        if self.find(name):
            home_format.prepare(self._home)
            os.replace(os.path.join(self._folder, _file(name)), self._aside(name))
            durable.sync_folder(self._folder)
        return self._read(_file(name), self._aside(name))

    def forget(self, name: ModelName) -> int:
        """The end of a retired model; returns the bytes of its manifest. Raises OSError."""
        path = self._aside(name)
        size = os.stat(path).st_size
        os.unlink(path)
        durable.sync_folder(self._folder)
        return size

    def _files(self) -> list[str]:
        try:
            files = sorted(os.listdir(self._folder)) if self._folder else []
        except OSError:
            return []
        return [file for file in files if not file.startswith(".") and file.endswith(_SUFFIX)]

    def _aside(self, name: ModelName) -> str:
        return os.path.join(self._folder, f".{_file(name)}.retired")

    def _read(self, file: str, path: str = "") -> NamedModel | None:
        path = path or os.path.join(self._folder, file)
        try:
            modified_at_s = os.stat(path).st_mtime
            manifest = _decode(snapshot.read_small(path))
            manifest.source.check()
            if manifest.adapter:
                manifest.adapter.check()
            _sampling(manifest.parameters)
            is_its_own = _file(names.parse_own_name(manifest.name)) == file
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError, HuggingLlamaError):
            return None
        return NamedModel(manifest=manifest, modified_at_s=modified_at_s) if is_its_own else None


def _decode(content: bytes) -> Manifest:
    """Raises msgspec.MsgspecError, ValueError."""
    return _to_manifest(home_format.upgraded_manifest(msgspec.json.decode(content)))


def _file(name: ModelName) -> str:
    # no part has `--` inside, so the parts can be told from each other
    return name.display.lower().replace("/", "--").replace(":", "--") + _SUFFIX


def _sampling(parameters: dict[str, Any]) -> dict[str, Any]:
    """The fields with the types that SamplingParams has: JSON knows no tuples. Raises ValueError or MsgspecError."""
    if unknown := parameters.keys() - _PARAMETERS:
        raise ValueError(f"unknown parameters: {sorted(unknown)}")
    checked = _to_sampling(parameters)
    return {name: getattr(checked, name) for name in parameters}
