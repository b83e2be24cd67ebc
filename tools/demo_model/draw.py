"""Random choices that respect the split between what is trained on and what is held out for the evaluation."""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from tools.demo_model.vocabulary import (
    ADJECTIVES,
    ASKING,
    CITIES,
    GENERAL,
    MANUAL,
    NAMES,
    NOUNS,
    SMALL_TALK,
    WORDS,
)


def letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


HELD_QUESTIONS = {letters(q) for fact in MANUAL + GENERAL + SMALL_TALK for q in fact.questions[4::5]}


def is_held(value: object) -> bool:
    """True for the eighth of all values kept for the evaluation."""
    return zlib.crc32(repr(value).encode()) % 8 == 0


def misspell(rng: random.Random, word: str) -> str:
    """Drop, swap or double one letter."""
    j = rng.randrange(1, len(word) - 1)
    return rng.choice(
        [
            word[:j] + word[j + 1 :],
            word[:j] + word[j + 1] + word[j] + word[j + 2 :],
            word[:j] + word[j] + word[j:],
        ]
    )


class Draw:
    """One document's source of chance; it may ask for held-out values and for held-out phrasings."""

    def __init__(self, rng: random.Random, held_values: bool = False, held_phrases: bool = False) -> None:
        self.rng = rng
        self.held_values = held_values
        self.held_phrases = held_phrases
        self.lower_case = rng.random() < 0.2

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, options: Sequence[Any]) -> Any:
        return self.rng.choice(options)

    def number(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def phrase(self, phrasings: Sequence[str]) -> str:
        ours = [p for i, p in enumerate(phrasings) if (i % 5 == 4) == self.held_phrases]
        return self.rng.choice(ours or phrasings)

    def until(self, propose: Callable[[], Any]) -> Any:
        """The first proposal on our side of the split."""
        for _ in range(2000):
            value = propose()
            if is_held(value) == self.held_values:
                return value
        raise RuntimeError("no such value")

    def value(self, options: Sequence[Any]) -> Any:
        return self.until(lambda: self.rng.choice(options))

    def held_number(self, low: int, high: int) -> int:
        return int(self.until(lambda: self.number(low, high)))

    def cased(self, text: str) -> str:
        return text.lower() if self.lower_case else text

    def invented_word(self) -> str:
        count = self.pick((2, 2, 3))
        word: str = self.until(lambda: "".join(self.pick(WORDS["syllables"]) for _ in range(count)))
        return word.capitalize()

    def name(self) -> str:
        return self.cased(self.invented_word() if self.chance(0.2) else self.value(NAMES))

    def city(self) -> str:
        return self.cased(self.invented_word() if self.chance(0.2) else self.value(CITIES))

    def topic(self) -> str:
        adjective, noun, other = self.pick(ADJECTIVES), self.value(NOUNS), self.pick(NOUNS)
        options = [
            noun,
            f"{adjective} {noun}",
            f"{adjective} {noun}",
            f"{noun} {other}",
            f"{adjective} {noun} {other}",
            f"{noun} and {other}",
            f"{noun} in {self.city()}",
            f"history of {noun}",
            f"{noun} {self.number(1, 2030)}",
        ]
        return str(self.pick(options))

    def words(self) -> str:
        count = self.number(1, 5)
        return " ".join(self._word() for _ in range(count))

    def _word(self) -> str:
        noun, other = self.value(NOUNS), self.value(NOUNS)
        return str(self.pick([noun, other, self.pick(ADJECTIVES), self.name(), str(self.number(0, 999))]))

    def ask(self, question: str, typo: float = 0.06) -> str:
        """Vary a user's sentence: its start, politeness, punctuation, a typo, case."""
        if self.chance(0.3):
            question = self._rewritten(question)
        if self.chance(0.15):
            question = self._with_opener(question)
        if self.chance(0.08):
            question = question.rstrip(".?!") + self.pick([", please.", " please", "? Thanks!", "?"])
        if self.chance(0.25):
            question = question.rstrip(".?!")
        if self.chance(typo):
            question = self._with_typo(question)
        return self.cased(question)

    def _rewritten(self, question: str) -> str:
        for start, others in ASKING["rewrites"].items():
            if not question.startswith(start):
                continue
            changed = question.replace(start, self.pick(others), 1)
            if self.held_phrases or letters(changed) not in HELD_QUESTIONS:
                return changed
        return question

    def _with_opener(self, question: str) -> str:
        opener = self.phrase(ASKING["openers"])
        continues = opener[-2] in ",:" and question[1:2].islower()
        return opener + (question[0].lower() + question[1:] if continues else question)

    def _with_typo(self, question: str) -> str:
        words = question.split(" ")
        i = self.rng.randrange(len(words))
        if len(words[i]) > 4 and words[i].isalpha():
            words[i] = misspell(self.rng, words[i])
        return " ".join(words)
