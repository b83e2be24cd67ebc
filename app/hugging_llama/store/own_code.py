"""Whether a model needs code of its own: told by its configuration, and by the kinds that the library here names."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_KINDS = ("auto_mappings.py", "configuration_auto.py")
"""Where transformers lists its kinds of models; read and not imported, which would take seconds and torch."""


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether transformers does not know this kind of model and the repository has code for it. One without code may be
    newer than the library: that is not for a pull to judge."""
    kind = config.get("model_type")
    if not config.get("auto_map") or not isinstance(kind, str):
        return False
    lists = list(_lists())
    return bool(lists) and not any(f'"{kind}"' in text for text in lists)


def _lists() -> Iterator[str]:
    found = importlib.util.find_spec("transformers")
    for folder in (found and found.submodule_search_locations) or ():
        for name in _KINDS:
            file = Path(folder, "models", "auto", name)
            if file.is_file():
                yield file.read_text("utf-8")
