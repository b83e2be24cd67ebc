"""The models that users named: a base from the Hub, a quantization and defaults, one small JSON file a model.

<home>/models/<name>--<tag>.json
<home>/models/<org>--<name>--<tag>.json    in lower case: names are the same in any case of letters
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.models import LocalModel, RequestDefaults
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama.store import durable, names, snapshot
from hugging_llama.store.names import ModelName

FORMAT_VERSION: Literal[1] = 1
_MAX_BYTES = 2**20
_SUFFIX = ".json"
_PARAMETERS = frozenset(field.name for field in dataclasses.fields(SamplingParams))


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename={"base": "from"}):
    """What the file holds. A later format has another `version` and its own reader.

    `name` is spelt as its user did; `base` is the canonical name of a Hub's model; `quantization` is that of a
    ModelRef; `parameters` are SamplingParams fields.
    """

    version: Literal[1] = FORMAT_VERSION
    name: str
    base: str
    quantization: Literal["", "none", "int8", "int4"] = ""
    parameters: dict[str, Any] = {}
    context_length: int | None = None
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A manifest as it was read; `modified_at_s` is Unix time."""

    manifest: Manifest
    modified_at_s: float

    @property
    def base(self) -> ModelName:
        """The model of the Hub that it is made from."""
        return names.parse_name(self.manifest.base)

    def over(self, base: LocalModel) -> LocalModel:
        """The model that requests get: the files of `base` under this name, with this quantization and defaults."""
        manifest, details = self.manifest, base.details
        if manifest.quantization in ("int8", "int4"):
            details = dataclasses.replace(details, quantization_level=manifest.quantization.upper())
        ref = dataclasses.replace(
            base.ref, name=manifest.name, digest=self._digest(base), quantization=manifest.quantization
        )
        defaults = RequestDefaults(
            sampling=_sampling(manifest.parameters), context_length=manifest.context_length, system=manifest.system
        )
        return dataclasses.replace(
            base,
            ref=ref,
            modified_at_s=self.modified_at_s,
            details=details,
            parent=manifest.base,
            defaults=defaults,
        )

    def _digest(self, base: LocalModel) -> str:
        """The same for the same content, whatever its name, and another one once the base's files are others."""
        nameless = msgspec.structs.replace(self.manifest, name="")
        content = msgspec.json.encode(nameless, order="deterministic")
        return hashlib.sha256(content + base.ref.digest.encode("ascii")).hexdigest()


class Manifests:
    """The named models of one home, "" for none. Several processes may share it; what can't be read is not there."""

    def __init__(self, home: str) -> None:
        self._folder = os.path.join(os.path.abspath(home), "models") if home else ""

    def all(self) -> Iterator[NamedModel]:
        """Every named model, by name."""
        try:
            files = sorted(os.listdir(self._folder)) if self._folder else []
        except OSError:
            return
        for file in files:
            if not file.startswith(".") and file.endswith(_SUFFIX) and (named := self._read(file)):
                yield named

    def find(self, name: ModelName) -> NamedModel | None:
        """The model of this name in any case of letters."""
        return self._read(_file(name)) if self._folder and names.is_own_name(name) else None

    def write(self, manifest: Manifest) -> NamedModel:
        """Keep a model, in place of the one that had its name. Raises InvalidRequestError, OSError."""
        if not self._folder:
            raise InvalidRequestError("this server has no folder for named models: set HUGGING_LLAMA_HOME")
        content = msgspec.json.format(msgspec.json.encode(manifest))
        if len(content) > _MAX_BYTES:
            raise InvalidRequestError(f"system and parameters of a model may have {_MAX_BYTES} bytes")
        name = names.parse_own_name(manifest.name)
        durable.replace_file(os.path.join(self._folder, _file(name)), content)
        return NamedModel(manifest=manifest, modified_at_s=time.time())

    def remove(self, name: ModelName) -> bool:
        """Forget a model; whether there was one. Raises OSError."""
        if self.find(name) is None:
            return False
        try:
            os.unlink(os.path.join(self._folder, _file(name)))
        except FileNotFoundError:
            return False
        durable.sync_folder(self._folder)
        return True

    def _read(self, file: str) -> NamedModel | None:
        path = os.path.join(self._folder, file)
        try:
            modified_at_s = os.stat(path).st_mtime
            manifest = msgspec.json.decode(snapshot.read_small(path), type=Manifest)
            names.parse_name(manifest.base)
            _sampling(manifest.parameters)
            is_its_own = _file(names.parse_own_name(manifest.name)) == file
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError, InvalidRequestError):
            return None
        return NamedModel(manifest=manifest, modified_at_s=modified_at_s) if is_its_own else None


def _file(name: ModelName) -> str:
    # no part has `--` inside, so the parts can be told from each other
    return name.display.lower().replace("/", "--").replace(":", "--") + _SUFFIX


def _sampling(parameters: dict[str, Any]) -> dict[str, Any]:
    """The fields with the types that SamplingParams has: JSON knows no tuples. Raises ValueError or MsgspecError."""
    if unknown := parameters.keys() - _PARAMETERS:
        raise ValueError(f"unknown parameters: {sorted(unknown)}")
    checked = msgspec.convert(parameters, SamplingParams)
    return {name: getattr(checked, name) for name in parameters}
