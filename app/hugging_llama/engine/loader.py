"""A directory to a model in memory. Vetted first, safetensors only, no code from the model, no network."""

import logging
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import transformers

from hugging_llama.engine.built_size import check_built_size
from hugging_llama.engine.chat_format import ChatFormat, chat_format, marker_ids
from hugging_llama.engine.classifier import is_causal_reranker, load_classifier
from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.gone_files import deletion_told
from hugging_llama.engine.linear.native import has_native_linears
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.linear.replace import packed_bytes
from hugging_llama.engine.linear.speed import bf16_is_fast
from hugging_llama.engine.memory import LOAD_SHORTAGE, is_out_of_memory
from hugging_llama.engine.model_runner import vocab_size
from hugging_llama.engine.panics import panics_as_errors
from hugging_llama.engine.pooling import check_pooled, check_pooling_named
from hugging_llama.engine.pretrained import (
    longest_input,
    pretrained_config,
    pretrained_model,
    pretrained_tokenizer,
    trained_context,
)
from hugging_llama.engine.stored_size import stored_size
from hugging_llama.engine.tokenizer_trial import try_tokenizers
from hugging_llama.engine.vetting import VettedFiles, check_modules, vet
from hugging_llama.engine.wide_attention import use_wide_attention
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError, ModelLoadError
from hugging_llama_config.model_memory import ModelSize, Runtime
from hugging_llama_config.settings import Settings

_log = logging.getLogger(__name__)

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "half": torch.float16,
    "float32": torch.float32,
    "fp32": torch.float32,
}
_LONGEST_INPUT = 131_072
"""Tokens that a model which embeds or classifies reads at once, whatever its files claim: as many as the longest are
made for. Attention takes time by their square."""
_CROSS_ENCODER = "CrossEncoder"
_SENTENCE_TRANSFORMER = "SentenceTransformer"
_UNSUPPORTED = "this kind of model is not supported: it neither writes nor embeds nor classifies text"


class ModelKind(Enum):
    """What a model is loaded for."""

    GENERATION = "generation"
    EMBEDDING = "embedding"
    CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model in memory. `model` is a causal language model in evaluation mode, a SentenceTransformer or a Classifier.

    `width` is the number of a token's logits (0 where no text is written), `trained_context` in tokens.
    `eos_token_ids` end an answer; `hidden_ids` have no text. `quantization` is one of QUANTIZATIONS, `linear` names
    what computes the linear layers.
    """

    kind: ModelKind
    model: Any
    tokenizer: Any
    format: ChatFormat
    eos_token_ids: frozenset[int]
    hidden_ids: frozenset[int]
    trained_context: int
    width: int
    device: torch.device
    dtype: torch.dtype
    size_bytes: int
    quantization: str
    linear: str


class Loader:
    """Loads for one device, chosen once. Raises ValueError for a device, dtype or quantization it does not know.

    Thread-safe; loads take turns, since transformers changes process-wide state while it builds a model (torch's
    default dtype, whether weights are tied) and two loads at once would damage each other.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.dtype != "auto" and settings.dtype not in _DTYPES:
            raise ValueError(f"unknown dtype {settings.dtype!r}")
        logs: Any = transformers.utils.logging
        logs.disable_progress_bar()  # standard error is a log
        logs.disable_default_handler()  # it writes texts of strangers there as they are; ours does not
        logs.enable_propagation()
        self._settings = settings
        self._turn = threading.Lock()
        self.device = choose_device(settings.device)
        self._packer = LinearPacker(self.device, settings.quantize)
        self._dtype = _DTYPES.get(settings.dtype)
        if self._dtype is None and self.device.type == "cpu":
            self._dtype = torch.bfloat16 if bf16_is_fast() else torch.float32
        elif self._dtype is None and self.device.type == "mps":
            self._dtype = torch.float16

    @property
    def dtype(self) -> str:
        """What generation models are loaded in, "" for what each is stored in."""
        return dtype_name(self._dtype) if self._dtype else ""

    def load(self, directory: str, quantization: str = "") -> Checkpoint:
        """Raises ModelLoadError, InsufficientMemoryError, or InvalidRequestError for what the model is not made for,
        with a sentence for the user; details go to the log.

        `quantization` is one of QUANTIZATIONS, "" for what the settings say.
        """
        try:
            quantization = self._packer.resolve(quantization)
            with deletion_told(directory):
                return self._load(vet(directory), quantization)
        except HuggingLlamaError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise InsufficientMemoryError(LOAD_SHORTAGE) from error
            exit_if_device_lost(error)
            _log.warning("a model could not be loaded", exc_info=True)
            raise ModelLoadError(_sentence(error)) from error

    def _load(self, files: VettedFiles, quantization: str) -> Checkpoint:
        kind = model_kind(files)
        try_tokenizers(files.tokenizers)
        with self._turn, panics_as_errors():
            if kind is ModelKind.EMBEDDING:
                return self._embedding(files, quantization)
            if kind is ModelKind.CLASSIFICATION:
                return self._classification(files, quantization)
            return self._generation(files, self._generation_dtype(files), quantization)

    def _generation(self, files: VettedFiles, dtype: torch.dtype, quantization: str) -> Checkpoint:
        config = pretrained_config(files)
        model = pretrained_model(_auto_class(config), files, config, dtype, self.device)
        tokenizer = pretrained_tokenizer(files, config)
        tokenizer.model_max_length = sys.maxsize  # long prompts are shortened elsewhere, without a warning each
        format = chat_format(tokenizer)
        eos_token_ids = _eos_token_ids(model, tokenizer) | format.turn_end_ids
        linear = self._packer.pack_writer(model, quantization, dtype)
        return Checkpoint(
            kind=ModelKind.GENERATION,
            model=model,
            tokenizer=tokenizer,
            format=format,
            eos_token_ids=eos_token_ids,
            hidden_ids=(frozenset(tokenizer.all_special_ids) | _special_ids(tokenizer) | eos_token_ids)
            - (marker_ids(tokenizer, format) - eos_token_ids),
            trained_context=trained_context(config),
            width=vocab_size(model) or config.get_text_config().vocab_size,
            device=self.device,
            dtype=dtype,
            size_bytes=_size_bytes(model),
            quantization=quantization,
            linear=linear,
        )

    def _embedding(self, files: VettedFiles, quantization: str) -> Checkpoint:
        check_modules(files)
        check_pooling_named(files)
        config = pretrained_config(files)
        check_built_size(transformers.AutoModel, config, files.weight_bytes)
        from sentence_transformers import SentenceTransformer  # slow to import, and most servers never need it

        model = SentenceTransformer(
            str(files.path),
            device=str(self.device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32, "trust_remote_code": False},
        )
        check_pooled(model)
        use_wide_attention(model, self.device)
        model.eval().requires_grad_(False)
        limit = longest_input(model, int(model.max_seq_length or trained_context(config)))
        linear = self._packer.pack(
            model, lambda: model.encode(["a word or two"], show_progress_bar=False), quantization, torch.float32
        )
        return self._reader(ModelKind.EMBEDDING, model, model, limit, quantization, linear)

    def _classification(self, files: VettedFiles, quantization: str) -> Checkpoint:
        model = load_classifier(files, self.device)
        use_wide_attention(model.module, self.device)
        linear = self._packer.pack(model.module, model.try_out, quantization, torch.float32)
        return self._reader(ModelKind.CLASSIFICATION, model, model.module, model.longest, quantization, linear)

    def _reader(
        self, kind: ModelKind, model: Any, module: torch.nn.Module, longest: int, quantization: str, linear: str
    ) -> Checkpoint:
        """The checkpoint of a model that reads whole inputs and writes nothing."""
        return Checkpoint(
            kind=kind,
            model=model,
            tokenizer=model.tokenizer,
            format=chat_format(model.tokenizer),
            eos_token_ids=frozenset(),
            hidden_ids=frozenset(),
            trained_context=min(longest, _LONGEST_INPUT),
            width=0,
            device=self.device,
            dtype=torch.float32,
            size_bytes=_size_bytes(module),
            quantization=quantization,
            linear=linear,
        )

    def _generation_dtype(self, files: VettedFiles) -> torch.dtype:
        if self._dtype is not None:
            return self._dtype
        stored = _DTYPES.get(str(files.config.get("dtype") or files.config.get("torch_dtype")).removeprefix("torch."))
        return stored if stored in (torch.bfloat16, torch.float16) else torch.bfloat16

    def measure(self, directory: str, quantization: str = "") -> tuple[ModelSize, Runtime]:
        """What decides how much a load takes, from the files' headers alone. Raises ModelLoadError."""
        with deletion_told(directory):
            return self._measured(vet(directory), quantization)

    def _measured(self, files: VettedFiles, quantization: str) -> tuple[ModelSize, Runtime]:
        kind = model_kind(files)
        is_writer = kind is ModelKind.GENERATION
        dtype = self._generation_dtype(files) if is_writer else torch.float32
        runtime = Runtime(
            device=self.device.type,
            dtype=dtype_name(dtype),
            quantization=self._packer.resolve(quantization),
            packs_linears=self.device.type == "cpu",
            has_native_linears=has_native_linears(),
            batched_tokens=self._settings.max_num_batched_tokens,
            kv_cache_bytes=self._settings.kv_cache_bytes,
        )
        has_head = is_writer or (kind is ModelKind.CLASSIFICATION and is_causal_reranker(files))
        return stored_size(files, is_embedding=not is_writer, has_head=has_head), runtime


def choose_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu. Raises ValueError for a device that is not there."""
    if name in ("", "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        what = "has no free memory" if is_out_of_memory(error) else "is not available"
        raise ValueError(f"device {name!r} {what}") from error
    return device


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16`."""
    return str(dtype).removeprefix("torch.")


def model_kind(files: VettedFiles) -> ModelKind:
    """Raises ModelLoadError for a model that neither writes nor embeds nor classifies text."""
    if files.is_sentence_transformer:
        return _library_kind(files)
    config = files.config
    named = config.get("architectures") or []
    architecture = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    if config.get("is_encoder_decoder"):
        raise ModelLoadError("encoder-decoder models are not supported")
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return ModelKind.GENERATION
    if architecture.endswith(("Model", "ForMaskedLM", "ForPreTraining")):
        return ModelKind.EMBEDDING
    if architecture.endswith("ForSequenceClassification"):
        return ModelKind.CLASSIFICATION
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not architecture and config.get("model_type") in known:
        return ModelKind.GENERATION
    raise ModelLoadError(_UNSUPPORTED)


def _library_kind(files: VettedFiles) -> ModelKind:
    """Of a model that sentence-transformers saved; before there were several kinds it named none."""
    kind = files.library_config.get("model_type", _SENTENCE_TRANSFORMER)
    if kind == _CROSS_ENCODER:
        return ModelKind.CLASSIFICATION
    if kind != _SENTENCE_TRANSFORMER:
        raise ModelLoadError(_UNSUPPORTED)
    return ModelKind.EMBEDDING


def _auto_class(config: Any) -> Any:
    if type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForImageTextToText


def _eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    sources = (
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        model.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    )
    ids: set[int] = set()
    for source in sources:
        ids.update(source if isinstance(source, (list, tuple)) else [] if source is None else [source])
    return frozenset(int(token_id) for token_id in ids)


def _special_ids(tokenizer: Any) -> frozenset[int]:
    return frozenset(token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special)


def _size_bytes(model: torch.nn.Module) -> int:
    """Bytes of weights and buffers; shared ones count once."""
    tensors: Iterable[torch.Tensor] = [*model.parameters(), *model.buffers()]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values()) + packed_bytes(model)


def _sentence(error: Exception) -> str:
    """What may be told of a library's error: its text holds paths and addresses, so only its kind is used."""
    name = type(error).__name__
    if "SafetensorError" in name:
        return "the model's weights are damaged; pull it again"
    if isinstance(error, ImportError):
        return "this model needs a library that is not installed"
    return "this model could not be loaded: its files do not fit together or its kind is not supported"
