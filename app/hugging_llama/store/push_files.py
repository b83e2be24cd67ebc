"""What is pushed of a model: its files as they lie on disk, and what its user said of it in files beside them."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.store import layout, license, names, selection, snapshot
from hugging_llama.store.defaults import GENERATION_CONFIG, HUB_NAMES
from hugging_llama.store.push_request import PushFile
from hugging_llama.store.selection import ADAPTER_CONFIG
from hugging_llama.store.snapshot import Snapshot
from hugging_llama_config.small_files import parse_json

_TEMPLATE = "chat_template.jinja"
_MODELFILE = "Modelfile"
_CARD = "README.md"
_LICENSE = "LICENSE"
# ids of licences as the Hub's model cards have them
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}")
_REPLACED = re.compile(r"[^/]+\.safetensors(?:\.index\.json)?")


def files_of(model: LocalModel, repo: str, modelfile: str) -> tuple[PushFile, ...]:
    """All files of `model`, or of its adapter if it has one, for the repository `repo`, sorted.

    `modelfile` is the text of its Modelfile. Raises ModelNotFoundError if files are gone, InvalidRequestError.
    """
    try:
        found = snapshot.read_snapshot(model.ref.path)
        sources = _adapter_sources(model.ref.adapter) if model.ref.adapter else _model_sources(found)
        licenses = _licenses(model, sources)
    except (OSError, selection.NotServableError) as error:
        raise ModelNotFoundError(model.ref.name, model.ref.name) from error
    files = {path: PushFile(path=path, source=source) for path, source in sources.items()}
    texts = {_MODELFILE: modelfile, **licenses}
    if model.defaults.template:
        texts[_TEMPLATE] = model.defaults.template
    if model.ref.adapter:
        texts |= _adapter_config(model, sources)
    elif model.defaults.sampling:
        config = generation_config(found.json(GENERATION_CONFIG), model.defaults.sampling)
        texts[GENERATION_CONFIG] = json.dumps(config, indent=2) + "\n"
    if not any(path.lower() == _CARD.lower() for path in files):
        texts[_CARD] = _card(model, found, repo)
    files |= {path: PushFile(path=path, text=text) for path, text in texts.items()}
    return tuple(file for _, file in sorted(files.items()))


def is_replaced(path: str) -> bool:
    """Whether a file of an earlier push would be taken for part of the model, so that it must go if it is no more."""
    return path in (_TEMPLATE, GENERATION_CONFIG, ADAPTER_CONFIG, _MODELFILE) or bool(_REPLACED.fullmatch(path))


def generation_config(before: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """A generation_config.json with SamplingParams fields over it, those that transformers' GenerationConfig knows."""
    config = dict(before)
    for field, name in HUB_NAMES.items():
        if field not in sampling:
            continue
        if sampling[field] is None:  # no limit
            config.pop(name, None)
        else:
            config[name] = sampling[field]
    if runs := [list(word) for word in sampling.get("bad_words", ()) if not isinstance(word, str)]:
        config["bad_words_ids"] = runs
    if "temperature" in sampling:
        config["do_sample"] = sampling["temperature"] > 0
        if not config["do_sample"]:  # greedy; GenerationConfig refuses a temperature of 0
            del config["temperature"]
    return config


def _model_sources(found: Snapshot) -> dict[str, str]:
    # with an adapter's configuration beside a model transformers would apply the adapter unasked
    paths = {*found.files, *found.documents} - {ADAPTER_CONFIG}
    return {path: os.path.realpath(os.path.join(found.folder, path)) for path in paths}


def _adapter_sources(folder: str) -> dict[str, str]:
    paths = [
        path
        for path in _top_files(folder)
        if path == ADAPTER_CONFIG
        or selection.is_support(path)
        or selection.is_document(path)
        or path.endswith(".safetensors")
    ]
    return {path: os.path.realpath(os.path.join(folder, path)) for path in paths}


def _top_files(folder: str) -> list[str]:
    """Those that `read_adapter` has looked at."""
    safe = filter(layout.is_safe_file, os.listdir(folder))
    return [path for path in safe if os.path.isfile(os.path.join(folder, path))]


def _adapter_config(model: LocalModel, sources: Mapping[str, str]) -> dict[str, str]:
    """The adapter's configuration with the base that it has here, where it names none that the Hub could know."""
    base = _base_repo(model)
    try:
        config = parse_json(ADAPTER_CONFIG, snapshot.read_small(sources[ADAPTER_CONFIG]))
        named = config.get("base_model_name_or_path")
        if not base or (isinstance(named, str) and _is_repo(named)):
            return {}
    except (OSError, KeyError, ValueError, AttributeError, RecursionError):
        return {}
    return {ADAPTER_CONFIG: json.dumps(config | {"base_model_name_or_path": base}, indent=2) + "\n"}


def _licenses(model: LocalModel, sources: Mapping[str, str]) -> dict[str, str]:
    """The licences that the user gave, after the one that is there."""
    if not model.licenses:
        return {}
    texts = list(model.licenses)
    if _LICENSE in sources:
        try:
            texts.insert(0, snapshot.read_small(sources[_LICENSE]).decode("utf-8", "replace").strip())
        except ValueError as error:
            raise InvalidRequestError(f"the {_LICENSE} of this model is too big to be added to") from error
    return {_LICENSE: "\n\n".join(texts) + "\n"}


def _card(model: LocalModel, found: Snapshot, repo: str) -> str:
    base = _base_repo(model)
    facts = {
        "base_model": base,
        "library_name": "peft" if model.ref.adapter else "transformers",
        "license": _license_id(model, found),
    }
    lines = ["---", *(f"{key}: {value}" for key, value in facts.items() if value), "---", "", f"# {repo}", ""]
    origin = f" from [{base}](https://huggingface.co/{base})" if base else ""
    kind = "A LoRA adapter" if model.ref.adapter else "A model"
    lines.append(f"{kind} made with Hugging Llama{origin}; `{_MODELFILE}` holds its parameters and texts.")
    if model.ref.quantization in ("int8", "int4"):
        lines.append(f"It is meant to be loaded with {model.ref.quantization} weights; those here are exact.")
    return "\n".join(lines) + "\n"


def _license_id(model: LocalModel, found: Snapshot) -> str:
    """The id among the given licences or in the base's model card; `other` for a mere text, "" for none."""
    texts = [*model.licenses, license.license_text(found)]
    ids = [text.strip().lower() for text in texts if _LICENSE_ID.fullmatch(text.strip().lower())]
    return ids[0] if ids else "other" if any(texts) else ""


def _base_repo(model: LocalModel) -> str:
    """The repository of the Hub that the model is made from, "" for one of uploaded files or of the server's disk."""
    return names.parse_name(model.parent).repo if model.parent and not names.is_path(model.parent) else ""


def _is_repo(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not any(part.startswith(".") for part in parts)
