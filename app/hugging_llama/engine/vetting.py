"""Looks at a model's files before any library opens them: they come from strangers.

Raises ModelLoadError with a sentence for the user, which never names a path.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hugging_llama.engine.gone_files import GONE
from hugging_llama.engine.model_files import check_folder, read_any_json, read_content, read_json
from hugging_llama.engine.tokenizer_trial import TokenizerSource
from hugging_llama.engine.vocabulary_files import check_vocabulary_files
from hugging_llama.errors import ModelLoadError
from hugging_llama_config.model_limits import config_problem, dicts
from hugging_llama_config.small_files import MOST_TOKENIZER_BYTES, TOKENIZER_FILE
from hugging_llama_config.tokenizer_file import TokenizerFile

_TOKENIZER_DECODER = msgspec.json.Decoder(TokenizerFile)
_TEMPLATES = "additional_chat_templates"
_FLOATS = ("Infinity", "-Infinity", "NaN")
_HOSTILE_KEY = re.compile(
    r"auto_map|trust_remote_code|custom_pipelines|custom_generate|.*attn_implementation.*|.*experts_implementation.*"
    r"|transformers_weights|gguf_file|fusion_config|kernel_config|use_kernels|distributed_config"
)

_TOKENIZER_CLASS = re.compile(r"[A-Za-z0-9_]{0,80}(Tokenizer|TokenizerFast|Backend)")
_TOKENIZER_INPUTS = frozenset({"init_inputs", "vocab", "merges", "tokenizer_object", "gguf_file"})
"""Arguments of tokenizer classes that take files or objects; no library writes them into a configuration."""

_ACTIVATION = re.compile(r"torch\.nn(\.[A-Za-z0-9_]+)+|[a-z_0-9]+")

_MOST_TOKENIZERS = 8
"""Real ones have one, or one for each of some versions of the library."""
_MOST_PARTS = 16
"""Of a sentence-transformers model: real ones have three or four."""

_SOUND_SIZES = re.compile(r"\w*(feature_size|bins|mels|fft|win_length|window_size|filter_length|frame_length)\w*")
_MOST_SOUND_SIZE = 4096
"""Of the tables that turn sounds into features. They are made with a processor, which sentence-transformers makes of
whatever a model names, also where it reads texts alone."""

_LAYER_SIZES = ("in_features", "out_features", "dimension")
_MODULE_TYPE = re.compile(
    r"sentence_transformers(\.[A-Za-z0-9_]+)*\.(?P<kind>Transformer|Pooling|Normalize|Dense|LayerNorm|Dropout|LogitScore)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VettedFiles:
    """What the files say. `config` is config.json without the keys that could reach code; `weight_bytes` on disk.
    `library_config` is what sentence-transformers has written of itself, {} where it has not."""

    path: Path
    config: dict[str, Any]
    weight_files: tuple[Path, ...]
    weight_bytes: int
    module_folders: tuple[str, ...]
    tokenizers: tuple[TokenizerSource, ...] = ()
    library_config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_sentence_transformer(self) -> bool:
        return bool(self.module_folders)


def vet(directory: str) -> VettedFiles:
    """Raises ModelLoadError for files that are missing, damaged, oversized, or that point elsewhere."""
    path = Path(directory)
    if not path.is_dir():
        raise ModelLoadError(GONE)
    raw = read_json(path / "config.json")
    modules = _module_folders(path)
    folders = [path / folder for folder in dict.fromkeys(("", *modules))]
    for folder in (*folders, *(folder / _TEMPLATES for folder in folders)):
        _check_kinds(folder)
        check_folder(folder)
    config = _with_floats(_without_hostile_keys(raw))
    for folder in folders:
        _check_tokenizer(folder, config)
    tokenizers = _tokenizers(folders)
    if (path / "adapter_config.json").exists():
        raise ModelLoadError("this is an adapter for another model; adapters can't be loaded on their own")
    weights = _weight_files(path)
    if not weights and modules:
        weights = next((found for folder in modules if (found := _weight_files(path / folder))), ())
    if not weights:
        raise ModelLoadError("this model has no safetensors weights; other formats may run code and are not loaded")
    weight_bytes = sum(file.stat().st_size for file in weights)
    check_config(config, weight_bytes)
    return VettedFiles(
        path=path,
        config=config,
        weight_files=weights,
        weight_bytes=weight_bytes,
        module_folders=tuple(modules),
        tokenizers=tuple(tokenizers),
        library_config=_library_config(path) if modules else {},
    )


def check_config(config: dict[str, Any], weight_bytes: int) -> None:
    """The sizes that a configuration names: possible ones, and no more than its weights of `weight_bytes` have.

    Raises ModelLoadError.
    """
    if problem := config_problem(config, weight_bytes):
        raise ModelLoadError(f"the model's config.json {problem}")


def _check_kinds(folder: Path) -> None:
    """The libraries open what they find: a pipe would be waited for, and a device may have no end."""
    for path in sorted(folder.glob("*")):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelLoadError(f"the model's {path.name} is no regular file")


def _without_hostile_keys(value: Any) -> Any:
    """Without what makes transformers import or fetch code, at any depth."""
    if isinstance(value, dict):
        return {key: _without_hostile_keys(item) for key, item in value.items() if not _HOSTILE_KEY.fullmatch(key)}
    if isinstance(value, list):
        return [_without_hostile_keys(item) for item in value]
    return value


def _with_floats(value: Any) -> Any:
    """Numbers that JSON has none for, as transformers writes them: `{"__float__": "Infinity"}`."""
    if isinstance(value, dict):
        if len(value) == 1 and value.get("__float__") in _FLOATS:
            return float(value["__float__"])
        return {key: _with_floats(item) for key, item in value.items()}
    return [_with_floats(item) for item in value] if isinstance(value, list) else value


def _check_tokenizer(path: Path, config: dict[str, Any]) -> None:
    """transformers looks for a class of any name, and reads tokenizer_config.json itself: refused, not taken out."""
    file = path / "tokenizer_config.json"
    settings = read_json(file) if file.is_file() else {}
    for named in (settings.get("tokenizer_class"), config.get("tokenizer_class")):
        if named is not None and not (isinstance(named, str) and _TOKENIZER_CLASS.fullmatch(named)):
            raise ModelLoadError("the model's tokenizer is of a kind that is not supported")
    named = settings.get("fast_tokenizer_files") or []
    # the library takes any name that has `tokenizer.` in it; only these are looked at before
    names = [str(name) for name in named] if isinstance(named, list) else [str(named)]
    if not all(TOKENIZER_FILE.fullmatch(name) and "/" not in name for name in names):
        raise ModelLoadError(f"the model's {file.name} names tokenizers that are not in a tokenizer*.json")
    if any(settings.get(key) for key in _TOKENIZER_INPUTS):
        raise ModelLoadError(f"the model's {file.name} names files outside of the model")


def _tokenizers(folders: list[Path]) -> list[TokenizerSource]:
    """Those that the tokenizers library reads: counted before one is read, and looked at."""
    found = [
        TokenizerSource(file, added)
        for folder in folders
        for added in (check_vocabulary_files(folder),)
        for file in sorted(folder.glob("tokenizer*.json"))
        if TOKENIZER_FILE.fullmatch(file.name) and file.is_file()
    ]
    if len(found) > _MOST_TOKENIZERS:
        raise ModelLoadError(f"the model has {len(found)} tokenizers; {_MOST_TOKENIZERS} are the most")
    for source in found:
        _check_tokenizer_file(source.path, source.added)
    return found


def _check_tokenizer_file(file: Path, added: Sequence[str]) -> None:
    """What it does to texts: the library adds its tokens, and those `added` by other files, which are texts, too."""
    try:
        found = _TOKENIZER_DECODER.decode(read_content(file, MOST_TOKENIZER_BYTES))
    except (msgspec.MsgspecError, RecursionError, ValueError, OSError):
        raise ModelLoadError(f"the model's {file.name} is damaged") from None
    if problem := found.problem(added):
        raise ModelLoadError(f"the model's {file.name} {problem}")


def check_modules(files: VettedFiles) -> None:
    """sentence-transformers reads these files itself, so what may reach code is refused rather than taken out."""
    for folder in files.module_folders:
        _check_module_size(files.path / folder)
    found = {file for folder in files.module_folders or ("",) for file in (files.path / folder).glob("*config*.json")}
    for file in sorted(found):
        for part in dicts(read_any_json(file)):
            for key, value in part.items():
                names_code = isinstance(value, str) and (
                    ("attn_implementation" in key and "/" in value)
                    or (key == "activation_function" and not _ACTIVATION.fullmatch(value))
                )
                if names_code:
                    raise ModelLoadError("this model needs code of its own, which is not run")
                is_sound = file.name.endswith("processor_config.json") and _SOUND_SIZES.fullmatch(key)
                if is_sound and isinstance(value, (int, float)) and value > _MOST_SOUND_SIZE:
                    raise ModelLoadError(f"the model's {file.name} has an impossible {key[:80]}")
                if key == "max_seq_length" and isinstance(value, (int, float)) and value < 1:
                    raise ModelLoadError(f"the model's {file.name} has a max_seq_length of {value}")


def _check_module_size(folder: Path) -> None:
    """A layer is made as large as its configuration says before its weights are looked at."""
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    sizes = [value for name in _LAYER_SIZES if isinstance(value := config.get(name), int)]
    num_bytes = sum(file.stat().st_size for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind))
    if sizes and math.prod(max(1, abs(size)) for size in sizes) > num_bytes:
        raise ModelLoadError(f"the model's {folder.name} does not fit its weights")


def _weight_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the weights: what transformers takes, a single one before those of an index."""
    indexed = _indexed_files(path)
    single = path / "model.safetensors"
    return (single,) if single.is_file() else indexed


def _indexed_files(path: Path) -> tuple[Path, ...]:
    """An index may only name files beside it."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return ()
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelLoadError(f"the model's {index.name} is damaged")
    names = sorted(set(named.values()))
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", name):
            raise ModelLoadError(f"the model's {index.name} names files outside of the model")
        if not (path / name).is_file():
            raise ModelLoadError("some of this model's weights are missing; pull it again")
    return tuple(path / name for name in names)


def _library_config(path: Path) -> dict[str, Any]:
    file = path / "config_sentence_transformers.json"
    return read_json(file) if file.is_file() else {}


def _module_folders(path: Path) -> list[str]:
    """The folders of a sentence-transformers model; empty if it is none. Only the library's own modules pass."""
    file = path / "modules.json"
    if not file.is_file():
        return []
    modules = read_any_json(file)
    if not isinstance(modules, list) or not modules:
        raise ModelLoadError("the model's modules.json is damaged")
    if len(modules) > _MOST_PARTS:
        raise ModelLoadError(f"the model's modules.json names {len(modules)} modules; {_MOST_PARTS} are the most")
    folders: list[str] = []
    num_transformers = 0
    for module in modules:
        kind, folder = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        found = _MODULE_TYPE.fullmatch(kind) if isinstance(kind, str) else None
        if found is None:
            raise ModelLoadError("this model needs code of its own, which is not run")
        if not isinstance(folder, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", folder):
            raise ModelLoadError("the model's modules.json names files outside of the model")
        folders.append(folder)
        num_transformers += found["kind"] == "Transformer"  # each loads all weights that there are
    if num_transformers > 1:
        raise ModelLoadError("models with several transformers in their modules.json are not supported")
    return folders
