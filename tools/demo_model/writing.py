"""Counting, lists and repeating a text."""

from typing import Any

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Example
from tools.demo_model.vocabulary import ASKING, LISTS, WORDS

NUMBER_WORDS = WORDS["number_words"]


def counting(draw: Draw) -> Example:
    step = draw.pick([1, 1, 1, 2, 5, 10])
    scale = step if step > 2 else 1
    first, count = draw.until(lambda: (draw.pick([0, 1, 1, draw.number(0, 80)]) * scale, draw.number(3, 12)))
    numbers = [first + i * step for i in range(count)]
    down = step == 1 and draw.chance(0.3)
    if down:
        numbers.reverse()
    a, b = numbers[0], numbers[-1]
    question = draw.phrase(counting_phrasings(step, down, a)).format(a=a, b=b, k=step)
    text = ", ".join(map(str, numbers))
    thinking = f"I count from {a} to {b} in steps of {-1 if down else step}."
    return Example(draw.ask(question, 0), text, thinking, ("exact", text), numbers)


def counting_phrasings(step: int, down: bool, first: int) -> list[str]:
    if step > 1:
        return list(ASKING["count_by"])
    if down:
        return list(ASKING["count_down"])
    return [*(ASKING["count_to"] if first == 1 else []), *ASKING["count_up"]]


def listing(draw: Draw) -> Example:
    if draw.chance(0.12):
        return days_or_months(draw)
    categories = [c for c in LISTS if c != "days"]
    category, count = draw.until(lambda: (draw.pick(categories), draw.number(2, 7)))
    number, items = draw.pick([str(count), NUMBER_WORDS[count]]), LISTS[category][:count]
    if draw.chance(0.5):
        phrasings, answer = ASKING["list_lines"], "\n".join(f"{i}. {x}" for i, x in enumerate(items, 1))
    else:
        phrasings, answer = ASKING["list_inline"], ", ".join(items)
    question = draw.ask(draw.phrase(phrasings).format(k=number, c=category), 0)
    check: tuple[str, Any] = ("items", (category, count))
    return Example(question, answer, f"The user wants {count} {category}.", check, items)


def days_or_months(draw: Draw) -> Example:
    what, items = draw.pick([("days of the week", LISTS["days"]), ("months of the year", WORDS["months"])])
    question = draw.ask(draw.phrase(ASKING["list_days_or_months"]).format(what))
    text = ", ".join(items)
    return Example(question, text, f"The user wants the {what}.", ("exact", text), items)


def echo(draw: Draw) -> Example:
    text = draw.cased(draw.words())
    wrapper = draw.cased(draw.phrase(ASKING["echo"]))
    ends = ["", "."] if wrapper.endswith('"') else ["", "", "."]
    question = wrapper.format(text) + draw.pick(ends)
    return Example(question, text, "I repeat the text.", ("exact", text), text)
