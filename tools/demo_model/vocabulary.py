"""The words, facts and phrasings of `phrases/`, read once."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHRASES = Path(__file__).with_name("phrases")


@dataclass(frozen=True)
class Fact:
    topic: str
    must_contain: str
    answers: list[str]
    questions: list[str]


def load(name: str) -> dict[str, Any]:
    return tomllib.loads((PHRASES / f"{name}.toml").read_text(encoding="utf-8"))


def facts(name: str, table: str) -> list[Fact]:
    return [Fact(**row) for row in load(name)[table]]


WORDS = load("words")
ASKING = load("asking")
UNKNOWN = load("unknown")
TOOLS = load("tools")
STORIES = load("stories")
MANUAL = facts("manual", "manual")
GENERAL = facts("general", "general")
SMALL_TALK = facts("general", "small_talk")

NAMES: list[str] = WORDS["names"]
CITIES: list[str] = WORDS["cities"]
NOUNS: list[str] = WORDS["nouns"]
ADJECTIVES: list[str] = WORDS["adjectives"]
VERBS: list[str] = WORDS["verbs"]
KEYS: list[str] = WORDS["keys"]
LISTS: dict[str, list[str]] = WORDS["lists"]
CAPITALS: dict[str, str] = WORDS["capitals"]
