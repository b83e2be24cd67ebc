"""The licence of a model: its text, or what the model card calls it."""

import os
import re

from hugging_llama.store.snapshot import Snapshot, read_small

_TEXT = re.compile(r"licen[cs]e(?:\.(?:md|txt))?", re.IGNORECASE)
_CARD = "README.md"
_NAME = re.compile(r"license(?:_name)?:[ \t]*([^\s\[\]{}'\"#][^\n]*)")


def license_text(snapshot: Snapshot) -> str:
    """The licence file of a model, else the name in the model card, else ""."""
    names = sorted(filter(_TEXT.fullmatch, snapshot.documents))
    texts = [text for name in names if (text := _read(snapshot, name).strip())]
    return "\n".join(texts) or _name_in_card(_read(snapshot, _CARD))


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


def _read(snapshot: Snapshot, name: str) -> str:
    if name not in snapshot.documents:
        return ""
    try:
        return read_small(os.path.join(snapshot.folder, name)).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
