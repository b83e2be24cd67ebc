"""transformers' renderer of chat templates, for a process that needs nothing else of it.

The package's own `__init__` takes three times as long to import, and 15 MB, for what no template can reach.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_PACKAGES = {"transformers": "", "transformers.utils": "/utils"}


def _renderer() -> Any:
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for name, folder in _PACKAGES.items():
        package = ModuleType(name)
        package.__path__ = [spec.submodule_search_locations[0] + folder]
        sys.modules[name] = package
    try:
        module = importlib.import_module("transformers.utils.chat_template_utils")
    except ImportError:  # of a version in which it is made otherwise
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
            del sys.modules[name]
        module = importlib.import_module("transformers.utils.chat_template_utils")
    return module.render_jinja_template


render_jinja_template = _renderer()
