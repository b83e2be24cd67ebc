"""The Python to start processes with: a server that embeds Python, as uWSGI does, is not one itself."""

import os
import sys


def own_python(executable: str = sys.executable, prefix: str = sys.prefix) -> str:
    """The interpreter of our environment. Inside uWSGI `sys.executable` is uWSGI, or a Python without our packages."""
    folder, name = os.path.split(executable)
    if name.startswith("python") and os.path.dirname(folder) == prefix:
        return executable
    found = os.path.join(prefix, "bin", "python3")
    return found if os.access(found, os.X_OK) else executable
