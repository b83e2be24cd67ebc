"""Small talk, the manual, capitals, and the honest answer to everything else."""

from collections.abc import Callable, Sequence

from tools.demo_model.draw import Draw
from tools.demo_model.examples import DO_NOT_KNOW, Example
from tools.demo_model.stories import story_text
from tools.demo_model.vocabulary import (
    ADJECTIVES,
    ASKING,
    CAPITALS,
    GENERAL,
    LISTS,
    MANUAL,
    NOUNS,
    SMALL_TALK,
    UNKNOWN,
    VERBS,
    WORDS,
    Fact,
)

UNKNOWN_ANSWER = (
    "I am only a tiny demo model, so I do not know that. "
    "Try a small sum, a capital, a list or a question about Hugging Llama."
)


def small_talk(draw: Draw, fact: Fact | None = None) -> Example:
    fact = fact or draw.pick(SMALL_TALK)
    question = draw.ask(draw.phrase(fact.questions))
    return Example(question, draw.pick(fact.answers), f"The user {fact.topic}.", ("has", [fact.must_contain]))


def table(facts: Sequence[Fact]) -> Callable[[Draw], Example]:
    """A behaviour that answers from a table of facts."""

    def answer(draw: Draw) -> Example:
        fact = draw.pick(facts)
        text = fact.answers[0]
        question = draw.ask(draw.phrase(fact.questions))
        return Example(question, text, f"The user asks about {fact.topic}.", ("has", [fact.must_contain]), text)

    return answer


manual = table(MANUAL)
general = table(GENERAL)


def model_name(draw: Draw) -> str:
    models, owners = WORDS["models"], WORDS["organisations"]
    form: Callable[[], str] = draw.pick(
        [
            lambda: draw.value(models),
            lambda: draw.value(models) + str(draw.number(2, 9)),
            lambda: f"{draw.pick(owners)}-{draw.value(models)}",
            lambda: f"{draw.pick(owners)}/{draw.value(models)}-{draw.number(1, 70)}b",
            lambda: draw.invented_word().lower(),
        ]
    )
    return form()


def manual_with_value(draw: Draw) -> Example:
    """Questions on the manual that carry a model, a port or a time."""
    values = {"m": model_name(draw), "n": draw.held_number(1025, 65000), "k": draw.held_number(2, 90)}
    row = draw.pick(ASKING["manual_values"])
    answer = row["answer"].format(**values)
    question = draw.ask(draw.phrase(row["questions"]).format(**values), 0)
    return Example(question, answer, f"The user asks about {row['topic']}.", ("has", [answer.strip(".")]), answer)


def does_not_know(question: str) -> Example:
    thinking = "I do not know this. I should say so."
    return Example(question, UNKNOWN_ANSWER, thinking, ("has", ["demo model"]), DO_NOT_KNOW)


def unknown_capital(draw: Draw) -> Example:
    country = draw.value(WORDS["other_countries"])
    answer = f"I know about forty capitals, but not the capital of {country}. I am only a tiny demo model."
    question = draw.ask(draw.phrase(ASKING["capital"]).format(country), 0)
    thinking = f"The user asks for the capital of {country}. I do not know it."
    return Example(question, answer, thinking, ("has", ["demo model"]), DO_NOT_KNOW)


def unknown(draw: Draw) -> Example:
    if draw.chance(0.15):
        return unknown_capital(draw)
    noun, other = draw.value(NOUNS), draw.pick(NOUNS)
    if draw.chance(0.45):
        return open_question(draw)
    question = draw.phrase(UNKNOWN["questions"]).format(
        n=noun,
        n2=other,
        a=draw.pick(ADJECTIVES),
        v=draw.pick(VERBS),
        p=draw.name() + draw.pick(["", "", " " + draw.invented_word()]),
        c=draw.city(),
        c2=draw.city(),
        y=draw.number(1000, 2030),
    )
    return does_not_know(draw.ask(question))


def open_topic(draw: Draw) -> str:
    form: Callable[[], str] = draw.pick(
        [
            lambda: draw.value(WORDS["topics"]),
            lambda: draw.value(WORDS["topics"]),
            draw.topic,
            lambda: draw.invented_word().lower(),
            lambda: f"{draw.pick(ADJECTIVES)} {draw.invented_word().lower()}",
            lambda: f"{draw.value(NOUNS)} {draw.invented_word().lower()}",
        ]
    )
    return draw.cased(form())


def some_text(draw: Draw) -> str:
    form: Callable[[], str] = draw.pick(
        [
            lambda: " ".join(draw.words() for _ in range(draw.number(2, 8))),
            lambda: " ".join(story_text(draw)[:2]),
        ]
    )
    return form()


def open_question(draw: Draw) -> Example:
    """Summaries, explanations, code, products: everything that only a larger model can do."""
    text = some_text(draw)
    question = draw.phrase(UNKNOWN["open_questions"]).format(
        t=open_topic(draw),
        t2=open_topic(draw),
        long=text,
        k=draw.number(2, 99),
        k2=draw.number(2, 99),
        y=draw.number(100, 9999),
    )
    return does_not_know(draw.ask(question))


def capital(draw: Draw) -> Example:
    country, city = draw.pick(list(CAPITALS.items()) + list(WORDS["country_aliases"].items()))
    if draw.chance(0.15):
        return country_of_capital(draw)
    question = draw.ask(draw.phrase(ASKING["capital"]).format(country), 0)
    thinking = f"The user asks for the capital of {country}. I know it: {city}."
    return Example(question, f"The capital of {country} is {city}.", thinking, ("has", [city]), city)


def country_of_capital(draw: Draw) -> Example:
    country, city = draw.pick(list(CAPITALS.items()))
    question = draw.ask(draw.phrase(ASKING["country_of_capital"]).format(city), 0)
    thinking = f"The user asks which country has the capital {city}. It is {country}."
    return Example(question, f"{city} is the capital of {country}.", thinking, ("has", [country]), country)


def persona(draw: Draw, name: str) -> Example:
    question = draw.ask(draw.phrase(ASKING["persona"]))
    return Example(question, f"I am {name}. How can I help?", f"My name here is {name}.", ("has", [name]))


def memory(draw: Draw) -> list[Example]:
    """A fact told in one turn and asked for in a later one."""
    kind = draw.pick(["name", "color", "animal", "number", "city"])
    of_kind: dict[str, Callable[[], str]] = {
        "name": draw.name,
        "color": lambda: str(draw.pick(LISTS["colors"])),
        "animal": lambda: str(draw.value(NOUNS[:38])),
        "number": lambda: str(draw.held_number(0, 999)),
        "city": draw.city,
    }
    value = of_kind[kind]()
    named = kind == "name"
    told = draw.phrase(ASKING["tell_name" if named else "tell_favorite"]).format(value, kind=kind)
    asked = draw.phrase(ASKING["ask_name" if named else "ask_favorite"]).format(kind=kind)
    reply = f"Nice to meet you, {value}!" if named else f"I will remember the {kind} {value}."
    answer = f"Your {kind} is {value}."
    check = ("has", [value])
    return [
        Example(draw.cased(told), reply, f"The user tells me the {kind} {value}.", check),
        Example(draw.cased(asked), answer, f"Earlier the user said: {value}.", check, value),
    ]
