"""Models with a classification head: those of transformers, and cross-encoders as sentence-transformers saves them."""

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor

from hugging_llama.engine.built_size import check_built_size
from hugging_llama.engine.model_files import read_json
from hugging_llama.engine.model_runner import compute_guard
from hugging_llama.engine.pretrained import (
    longest_input,
    missing_weights,
    pretrained_config,
    pretrained_model,
    pretrained_tokenizer,
    trained_context,
)
from hugging_llama.engine.vetting import VettedFiles, check_modules
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.classification import Activation, ProblemType, activation_named, problem_type_named

_TRANSFORMER_CONFIG = "sentence_bert_config.json"
_HEAD = "sequence-classification"
_WRITER = "text-generation"
_AUTO_CLASSES = {
    _HEAD: transformers.AutoModelForSequenceClassification,
    _WRITER: transformers.AutoModelForCausalLM,
    "feature-extraction": transformers.AutoModel,
    "fill-mask": transformers.AutoModelForMaskedLM,
}
_KNOWN_SETTINGS = frozenset(
    {
        "transformer_task", "modality_config", "module_output_name", "max_seq_length", "do_lower_case",
        "processing_kwargs", "unpad_inputs",
    }
)  # fmt: skip
_LONGEST_LABEL = 1_000
"""In characters: an answer names one for each of thousands of inputs."""
_UNKNOWN_KIND = "this kind of classification model is not supported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A model whose numbers for an input are scores.

    `module` is all of it, `model` transformers' part; `library` is `module` where that is a CrossEncoder, else None.
    `longest` is in tokens. `pads_left`: what is computed in the last place of a row is the score.
    """

    module: torch.nn.Module
    model: Any
    tokenizer: Any
    library: Any
    labels: tuple[str, ...]
    activation: Activation | None
    problem_type: ProblemType | None
    longest: int
    pads_left: bool = False

    def scores(self, features: Mapping[str, Any]) -> Tensor:
        """(rows, labels), as the model computes them."""
        if self.library is not None:
            found: Tensor = self.library(dict(features))["scores"]
            return found
        known = inspect.signature(self.model.forward).parameters
        logits: Tensor = self.model(**{name: value for name, value in features.items() if name in known}).logits
        return logits

    def try_out(self) -> Tensor:
        """The scores of a short text, of a cross-encoder those of a pair. Whoever calls holds the compute lock."""
        with torch.inference_mode():
            if self.library is None:
                features = self.tokenizer("a word or two", return_tensors="pt")
            else:
                features = self.library.preprocess([("a word", "or two")])
            return self.scores({name: _on(value, self.model.device) for name, value in features.items()})


def load_classifier(files: VettedFiles, device: torch.device) -> Classifier:
    """In float32, and tried out. Raises ModelLoadError, and what the libraries raise."""
    found = _cross_encoder(files, device) if files.is_sentence_transformer else _plain(files, device)
    with compute_guard(device):
        scores = found.try_out()
    if scores.shape != (1, len(found.labels)):
        raise ModelLoadError(_UNKNOWN_KIND)
    return found


def is_causal_reranker(files: VettedFiles) -> bool:
    """Whether these files of a classification model hold a language model, whose scores are logits of tokens.

    Raises ModelLoadError.
    """
    return files.is_sentence_transformer and _task(files) == _WRITER


def _plain(files: VettedFiles, device: torch.device) -> Classifier:
    _check_architecture(files)
    config = pretrained_config(files)
    auto_class = transformers.AutoModelForSequenceClassification
    model = pretrained_model(auto_class, files, config, torch.float32, device)
    model.config.use_cache = False  # nothing is generated
    tokenizer = pretrained_tokenizer(files, config)
    limit = min(tokenizer.model_max_length, trained_context(config))
    tokenizer.model_max_length = sys.maxsize
    return Classifier(
        module=model,
        model=model,
        tokenizer=tokenizer,
        library=None,
        labels=_labels(config, config.num_labels),
        activation=_activation(files),
        problem_type=problem_type_named(config.problem_type),
        longest=longest_input(model, limit),
    )


def _check_architecture(files: VettedFiles) -> None:
    """Code of a model's own often bears the type of a known one, whose class would read its weights without a word."""
    known = transformers.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()
    if files.config["architectures"][0] not in known:
        raise ModelLoadError("this model needs code of its own, which is not run")


def _cross_encoder(files: VettedFiles, device: torch.device) -> Classifier:
    task = _task(files)
    config = pretrained_config(files)
    check_built_size(_AUTO_CLASSES[task], config, files.weight_bytes)
    from sentence_transformers import CrossEncoder  # slow to import, and most servers never need it

    library = CrossEncoder(
        str(files.path),
        device=str(device),
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32, "trust_remote_code": False},
        activation_fn=torch.nn.Identity(),  # else the library would call whatever in torch the files name
    )
    library.eval().requires_grad_(False)
    model: Any = library.transformers_model
    if task == _HEAD:
        _check_head(model, files)
    return Classifier(
        module=library,
        model=model,
        tokenizer=library.tokenizer,
        library=library,
        labels=_labels(config, library.num_labels),
        activation=_activation(files),
        problem_type=problem_type_named(config.problem_type) if task == _HEAD else None,
        longest=longest_input(model, min(_library_limit(library), trained_context(config))),
        pads_left=task == _WRITER,
    )


def _task(files: VettedFiles) -> str:
    """What transformers' part is loaded for. Raises ModelLoadError for what is not known here, as the file decides
    which classes are built, from where, and which method is called."""
    check_modules(files)
    file = files.path / _TRANSFORMER_CONFIG
    settings = read_json(file) if file.is_file() and not files.module_folders[0] else {}
    task = settings.get("transformer_task")
    modalities = settings.get("modality_config")
    is_known = (
        isinstance(task, str)
        and task in _AUTO_CLASSES
        and not any(value for key, value in settings.items() if key not in _KNOWN_SETTINGS)
        and isinstance(modalities, dict)
        and all(isinstance(part, dict) and part.get("method") == "forward" for part in modalities.values())
    )
    if not is_known:
        raise ModelLoadError(_UNKNOWN_KIND)
    return str(task)


def _check_head(model: Any, files: VettedFiles) -> None:
    """The library says nothing of missing weights; without those of the head all scores would be random."""
    stored: set[str] = set()
    for path in files.weight_files:
        with safe_open(path, framework="np") as file:
            stored.update(file.keys())
    body = f"{model.base_model_prefix}."
    if any(not name.startswith(body) and name not in stored for name in model.state_dict()):
        raise missing_weights()


def _library_limit(library: Any) -> int:
    own = library[0].processing_kwargs.get("text", {}).get("max_length")
    limits = [limit for limit in (own, library.max_seq_length) if isinstance(limit, int) and limit > 0]
    return min(limits, default=sys.maxsize)


def _activation(files: VettedFiles) -> Activation | None:
    """Where the versions of sentence-transformers have written it, the latest first."""
    nested = files.config.get("sentence_transformers")
    named = (
        files.library_config.get("activation_fn"),
        nested.get("activation_fn") if isinstance(nested, dict) else None,
        files.config.get("sbert_ce_default_activation_function"),
    )
    return activation_named(next((name for name in named if name is not None), None))


def _labels(config: Any, count: int) -> tuple[str, ...]:
    """Raises ModelLoadError for one that is too long."""
    named: dict[int, Any] = config.id2label or {}
    if len(named) != count:
        named = {}
    labels = tuple(_text(named.get(number, f"LABEL_{number}")) for number in range(count))
    longest = max(map(len, labels), default=0)
    if longest > _LONGEST_LABEL:
        raise ModelLoadError(f"the model has a label of {longest} characters; {_LONGEST_LABEL} are the most")
    return labels


def _text(label: object) -> str:
    text = label if isinstance(label, str) else json.dumps(label)
    return text.encode("utf-8", "replace").decode()


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
