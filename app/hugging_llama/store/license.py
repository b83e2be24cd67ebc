"""The licence of a model: its text, or what the model card calls it."""

import os
import re

from hugging_llama.store.snapshot import read_small

_TEXT = re.compile(r"licen[cs]e(?:\.(?:md|txt))?", re.IGNORECASE)
_CARD = "README.md"
_NAME = re.compile(r"license(?:_name)?:[ \t]*([^\s\[\]{}'\"#][^\n]*)")


def license_text(folder: str) -> str:
    """The licence file of a model's folder, else the name in the model card, else ""."""
    try:
        names = sorted(name for name in os.listdir(folder) if _TEXT.fullmatch(name))
    except OSError:
        return ""
    texts = [text for name in names if (text := _read(os.path.join(folder, name)).strip())]
    return "\n".join(texts) or _name_in_card(_read(os.path.join(folder, _CARD)))


def _name_in_card(card: str) -> str:
    """`license_name`, which says what `license: other` is, else `license`, of the card's YAML front matter."""
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if match := _NAME.fullmatch(line.rstrip()):
            found[line.partition(":")[0]] = match[1].strip()
    return found.get("license_name") or found.get("license", "")


def _read(path: str) -> str:
    try:
        return read_small(path).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
