"""What is said about models: where one lies, what it can do, which are in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hugging_llama.neutral.messages import Message


class Capability(StrEnum):
    """What a model can do, in the words of the `capabilities` lists on the wire."""

    COMPLETION = "completion"
    TOOLS = "tools"
    THINKING = "thinking"
    INSERT = "insert"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model the engine can load: it is given a directory and never looks anything up.

    `name` is what responses and `ps` show, canonical with its tag. `quantization` is `none`, `int8` or `int4`, "" for
    what the settings say. `adapter` is the directory of a LoRA adapter, "" for none. Two refs with the same `path` and
    `quantization` share one copy in memory, whatever their adapters.
    """

    name: str
    path: str
    digest: str = ""
    quantization: str = ""
    adapter: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What two refs to the same copy in memory have in common."""
        return self.path, self.quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in memory. `expires_at_s` is Unix time, infinite for a model that stays for ever.

    `runner` names the way its sequences are run, `runner_reason` says why it is this one.
    `quantization` is `none`, `int8` or `int4`, `linear` names what computes the linear layers.
    """

    name: str
    path: str
    digest: str
    size_bytes: int
    size_vram_bytes: int
    context_length: int
    expires_at_s: float
    ref_count: int
    device: str
    dtype: str
    runner: str
    runner_reason: str = ""
    quantization: str = "none"
    linear: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """What the files of a model say about it. Lengths in tokens and vector elements, None where unknown."""

    format: str
    family: str
    parameter_count: int | None
    quantization_level: str
    context_length: int | None
    embedding_length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDefaults:
    """What a named model says where a request says nothing. `sampling` holds SamplingParams fields by name.

    `template` is Jinja, "" for the one among the model's files; `messages` come before those of every chat.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    context_length: int | None = None
    system: str = ""
    template: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model on disk. `digest` is 64 hex characters, another one for another content; `modified_at_s` Unix time.

    `is_named`: a user made it. `parent` is the name of the Hub's model that such a one is made from, "" for one of
    uploaded files and for the Hub's models themselves. `licenses` were given by its user, beside those in its files.
    `made_from` and `adapter` are names that make a named model again, as FROM and ADAPTER of a Modelfile; `made_from`
    is "" where files were uploaded for it, so that only its own name does. `requires` is the least version of Ollama
    that its user said it needs.
    """

    ref: ModelRef
    size_bytes: int
    modified_at_s: float
    details: ModelDetails
    capabilities: tuple[Capability, ...]
    is_named: bool = False
    parent: str = ""
    licenses: tuple[str, ...] = ()
    made_from: str = ""
    adapter: str = ""
    requires: str = ""

    @property
    def quantization_level(self) -> str:
        """The number format that the model is made for, or that its files have."""
        quantization = self.ref.quantization
        return self.details.quantization_level if quantization in ("", "none") else quantization.upper()

    defaults: RequestDefaults = RequestDefaults()
