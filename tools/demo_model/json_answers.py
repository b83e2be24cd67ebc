"""Answers that are JSON objects."""

import json
from collections.abc import Callable
from typing import Any

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Example, Json
from tools.demo_model.sums import arithmetic
from tools.demo_model.talk import capital, general, manual, unknown
from tools.demo_model.vocabulary import ASKING, CAPITALS, KEYS, LISTS, NOUNS, WORDS

Asked = tuple[str, Json, str]
"""The question, the object and the reasoning."""

WANTS_JSON = "The user wants a JSON object."


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def any_value(draw: Draw) -> str | int:
    options: list[Callable[[], str | int]] = [
        lambda: str(draw.value(NOUNS)),
        lambda: draw.held_number(0, 999),
        draw.city,
        draw.name,
        lambda: draw.held_number(0, 99),
    ]
    form: Callable[[], str | int] = draw.pick(options)
    return form()


def ask_for(draw: Draw, phrasings: str, **values: Any) -> str:
    return draw.ask(draw.phrase(ASKING[phrasings]).format(**values), 0)


def pairs(draw: Draw) -> Asked:
    keys = draw.rng.sample(KEYS, draw.number(1, 3))
    wanted = {key: any_value(draw) for key in keys}
    body = (", " if draw.chance(0.5) else " and ").join(f"{k} {v}" for k, v in wanted.items())
    return ask_for(draw, "json_pairs", b=body), wanted, WANTS_JSON


def person(draw: Draw) -> Asked:
    wanted = {"name": draw.name(), "age": draw.held_number(1, 99)}
    return ask_for(draw, "json_person", n=wanted["name"], a=wanted["age"]), wanted, WANTS_JSON


def extract(draw: Draw) -> Asked:
    wanted = {"name": draw.name(), "city": draw.city()}
    return ask_for(draw, "json_extract", n=wanted["name"], c=wanted["city"]), wanted, WANTS_JSON


def country(draw: Draw) -> Asked:
    name, city = draw.value(list(CAPITALS.items()))
    return ask_for(draw, "json_capital", c=name), {"country": name, "capital": city}, WANTS_JSON


def category(draw: Draw) -> Asked:
    name, count = draw.value([(c, n) for c in LISTS for n in range(2, 6)])
    number = draw.pick([count, WORDS["number_words"][count]])
    return ask_for(draw, "json_list", n=number, c=name), {name: LISTS[name][:count]}, WANTS_JSON


def answered(draw: Draw) -> Asked:
    """Any question with a short answer, and the wish for JSON."""
    example: Example = draw.pick([capital, arithmetic, unknown, general, manual])(draw)
    gap = draw.pick([" ", ". "]) * (example.question[-1] != " ")
    wish = draw.cased(draw.phrase(ASKING["json_answer"]))
    question = example.question.rstrip(" .") + gap + wish
    return question, {"answer": example.short}, f"{example.thinking} I answer in JSON."


KINDS = [pairs, pairs, person, country, category, extract, answered, answered]


def as_json(draw: Draw) -> Example:
    question, wanted, thinking = draw.pick(KINDS)(draw)
    return Example(question, to_json(wanted), thinking, ("json", wanted))


def in_json(example: Example) -> Example:
    """The same question where the system prompt asks for JSON."""
    wanted = {"answer": example.short}
    thinking = f"{example.thinking} I answer in JSON."
    return Example(example.question, to_json(wanted), thinking, ("json", wanted))
