"""Prints what a pyproject.toml depends on, one requirement a line: for an image layer without the project itself."""

import sys
import tomllib
from pathlib import Path

print(*tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"], sep="\n")
