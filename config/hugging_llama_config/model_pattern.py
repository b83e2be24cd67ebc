"""Patterns of model names, as keys have them: which ones can be for a model at all.

Which names a pattern covers is the server's to say; what it takes for one is told here, too, so that the command line
can refuse what was mistyped. Wherever it is not certain that a pattern is for nothing, it is taken.
"""

import re

_HUB = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/", re.IGNORECASE)
_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")
_LATEST = ":latest"
_LOCAL = re.compile(r":local", re.IGNORECASE)
_CLOUD = re.compile(r".*:(?:[^:/]*-)?cloud", re.IGNORECASE)
_NO_NAME_HAS = re.compile(r"[^A-Za-z0-9_.+:/-]")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_PART}(?:/{_PART})?(?::(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*)?)?")
_NOWHERE = re.compile(r"\.\.|//|[/:][/.:+-]")
_NO_START = re.compile(r"[/.:+-]|[^:]*/[^:]*/")
_SHAPE = "names are NAME or ORG/NAME, with :REVISION where it is not the default one"


def pattern_fault(text: str) -> str:
    """Why no model can have a name that this pattern covers; "" where one can."""
    if not text:
        return "it is empty"
    if not text.isprintable():
        return "it has a character that can't be printed"
    return _path_fault(text) if text.startswith("/") else _name_fault(_HUB.sub("", text, count=1))


def _path_fault(text: str) -> str:
    path = text.removesuffix(_LATEST)
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        return "a model's path has no empty parts, no . and no .. in it"
    return "a model's path has no ':' in it" if ":" in path else ""


def _name_fault(text: str) -> str:
    literals = _WILDCARD.split(text)
    if odd := _NO_NAME_HAS.search("".join(literals)):
        if odd[0] == "[":
            return "its [ has no ] after it"
        advice = "; give each pattern by itself" if odd[0] in ", ;" else ""
        return f"no model's name has {odd[0]!r} in it{advice}"
    if len(literals) > 1:
        is_possible = (
            not any(map(_NOWHERE.search, literals)) and not _NO_START.match(literals[0]) and text.count(":") <= 1
        )
        return "" if is_possible else _SHAPE
    if _CLOUD.fullmatch(text):
        return "there are no cloud models here"
    if local := _LOCAL.search(text):
        text = text[: local.start()] + text[local.end() :]
    return "" if _NAME.fullmatch(text) and ".." not in text and "--" not in text.partition(":")[0] else _SHAPE
