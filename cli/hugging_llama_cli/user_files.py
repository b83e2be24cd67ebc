"""Other programs' configuration files: changed where they must be, with everything else as it was.

A change is made in memory first and refused if it can't be made without a loss. The file as it was stays beside the new
one.
"""

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from hugging_llama_cli.errors import CliError

Values = Mapping[str, Any]


class MergeError(Exception):
    """The file can't be changed without losing something; the message says why."""


def with_json(text: str, values: Values) -> str:
    """The JSON object of `text` with `values` laid over it, object by object. Raises MergeError."""
    try:
        kept = json.loads(text) if text.strip() else {}
    except ValueError:
        raise MergeError("is no plain JSON (comments would be lost)") from None
    if not isinstance(kept, dict):
        raise MergeError("holds no JSON object")
    return json.dumps(_laid_over(kept, values), indent=2, ensure_ascii=False) + "\n"


def with_yaml_keys(text: str, values: Values) -> str:
    """YAML with these keys at its top set to texts; lines, comments and order stay. Raises MergeError."""
    before = _yaml_object(text)
    lines = text.splitlines()
    for key, value in values.items():
        line = f"{key}: {json.dumps(value, ensure_ascii=False)}"
        found = [n for n, old in enumerate(lines) if re.match(rf"{re.escape(key)}\s*:", old)]
        if found:
            lines[found[0]] = line
        else:
            lines.append(line)
    return _checked("\n".join(lines) + "\n", {**before, **values})


def with_yaml_item(text: str, key: str, item: Values) -> str:
    """YAML with `item` first in the list `key`, in place of one of the same name. Raises MergeError."""
    before = _yaml_object(text)
    kept = before.get(key) or []
    if not isinstance(kept, list):
        raise MergeError(f"has something else than a list at '{key}'")
    if item in kept:
        return text
    if any(isinstance(old, dict) and old.get("name") == item["name"] for old in kept):
        raise MergeError(f"has a '{item['name']}' already, with other values")
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines) if re.match(rf"{re.escape(key)}\s*:\s*(#.*)?$", line)]
    if not heads:
        if key in before:
            raise MergeError(f"writes '{key}' in one line")
        lines.append(f"{key}:")
        heads = [len(lines) - 1]
    rest = lines[heads[0] + 1 :]
    indent = next((line[: len(line) - len(line.lstrip())] for line in rest if line.lstrip().startswith("- ")), "  ")
    pairs = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in item.items()]
    added = [f"{indent}{'- ' if n == 0 else '  '}{pair}" for n, pair in enumerate(pairs)]
    return _checked("\n".join([*lines[: heads[0] + 1], *added, *rest]) + "\n", {**before, key: [dict(item), *kept]})


def read(path: Path) -> str:
    """The file's text, "" if it is not there. Raises CliError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"'{path}' can't be read: {error}") from None


def write(path: Path, text: str) -> Path | None:
    """Replace the file at once; gives where it is kept as it was, None if there was none. Raises CliError."""
    target = path.resolve()  # what people link to stays linked to
    backup = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(target.stat().st_mode)
            backup = _kept(target, mode)
        part = target.with_name(f".{target.name}.{os.getpid()}")
        _create(part, text.encode(), mode)
        os.replace(part, target)
    except OSError as error:
        raise CliError(f"'{path}' can't be written: {error.strerror}") from None
    return backup


def _kept(target: Path, mode: int) -> Path:
    """A copy under a name that nothing has yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        backup = target.with_name(f"{target.name}.{stamp}{f'-{number}' if number else ''}.backup")
        try:
            _create(backup, target.read_bytes(), mode)
        except FileExistsError:
            continue
        return backup
    raise OSError(0, "there are too many backups")


def _create(path: Path, content: bytes, mode: int) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _laid_over(kept: Values, values: Values) -> dict[str, Any]:
    found = dict(kept)
    for key, value in values.items():
        old = found.get(key)
        if isinstance(value, dict):
            if old is not None and not isinstance(old, dict):
                raise MergeError(f"has something else than an object at '{key}'")
            found[key] = _laid_over(old or {}, value)
        else:
            found[key] = value
    return found


def _yaml_object(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError:
        raise MergeError("is no YAML") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MergeError("holds no YAML mapping")
    return value


def _checked(text: str, wanted: Values) -> str:
    """`text` if it means what was wanted: lines were changed without a parser that keeps them."""
    if _yaml_object(text) != wanted:
        raise MergeError("is written in a way that can't be changed safely")
    return text
