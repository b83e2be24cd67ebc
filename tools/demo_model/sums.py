"""Sums, differences and counting."""

from tools.demo_model.draw import Draw, is_held
from tools.demo_model.examples import DO_NOT_KNOW, Drill, Example
from tools.demo_model.vocabulary import ASKING, WORDS

TOO_LARGE = "These numbers are too large for a tiny demo model. Turn thinking on, use small numbers or give me a tool."
PLACES = ["ones", "tens", "hundreds", "thousands"]
SIZES = [10, 20, 20, 50, 99, 99]
ALWAYS_TRAINED = 10
"""All pairs up to this number are trained on; of the larger ones, an eighth is held out."""


def pair(draw: Draw, high: int) -> tuple[int, int]:
    for _ in range(2000):
        a, b = draw.number(0, high), draw.number(0, high)
        held = max(a, b) > ALWAYS_TRAINED and is_held((min(a, b), max(a, b)))
        if held == draw.held_values:
            return a, b
    raise RuntimeError("no such pair")


def too_large(draw: Draw, least: int) -> Example:
    a, b = draw.number(least, least * 10 ** draw.number(1, 3)), draw.number(0, least * 10)
    if draw.chance(0.5):
        a, b = b, a
    phrasings = draw.pick([ASKING["addition"], ASKING["subtraction"]])
    question = draw.ask(draw.phrase(phrasings).format(a=a, b=b), 0)
    thinking = "These numbers are too large for me."
    return Example(question, TOO_LARGE, thinking, ("has", ["too large"]), DO_NOT_KNOW)


def steps(a: int, b: int, sign: str) -> str:
    """Column arithmetic in words: the reasoning that thinking mode shows."""
    if sign == "-" and a < b:
        return f"{a} is less than {b}. {b} - {a} = {b - a}, so it is -{b - a}."
    columns: list[str] = []
    carry, x, y = 0, a, b
    while x or y or not columns:
        i, j = x % 10, y % 10
        value = i + j + carry if sign == "+" else i - j - carry
        column = f"{PLACES[len(columns)]} {i} {sign} {j}" + (f" {sign} {carry}" if carry else "")
        column += f" = {value}"
        carry = int(value > 9 or value < 0)
        if carry:
            column += f", keep {value - 10 if sign == '+' else value + 10}"
        columns.append(column)
        x, y = x // 10, y // 10
    return "; ".join(columns) + f"; so {a + b if sign == '+' else a - b}."


def sum_in_words(draw: Draw, a: int, b: int, sign: str) -> str:
    thing, person = draw.pick(WORDS["countable"]), draw.name()
    phrasings = ASKING["addition_story" if sign == "+" else "subtraction_story"]
    return draw.ask(draw.phrase(phrasings).format(a=a, b=b, n=thing, p=person), 0)


def arithmetic(draw: Draw, large: bool = False) -> Example:
    """A sum or difference; up to 99, or in thinking mode (large) up to 999."""
    if draw.chance(0.08):
        return too_large(draw, 1000 if large else 100)
    sign = draw.pick("++-")
    high = 999 if large and draw.chance(0.3) else draw.pick(SIZES)
    a, b = pair(draw, max(high, 20) if draw.held_values else high)
    if sign == "-" and a < b and draw.chance(0.9):
        a, b = b, a
    result = a + b if sign == "+" else a - b
    if draw.chance(0.15) and a >= b:
        question = sum_in_words(draw, a, b, sign)
    else:
        phrasings = ASKING["addition" if sign == "+" else "subtraction"]
        question = draw.ask(draw.phrase(phrasings).format(a=a, b=b), 0)
    answer = f"{a} {sign} {b} = {result}"
    return Example(question, answer, steps(a, b, sign), ("exact", answer), result)


def drill(draw: Draw) -> Drill:
    """Many sums in one document; only the results are learned."""
    pieces: list[tuple[str, bool]] = []
    for _ in range(draw.number(8, 30)):
        a, b = pair(draw, draw.pick([10, 20, 50, 99, 99]))
        if draw.chance(0.6):
            pieces += [(f"{a} + {b} =", False), (f" {a + b}\n", True)]
        elif a >= b or draw.chance(0.1):
            pieces += [(f"{a} - {b} =", False), (f" {a - b}\n", True)]
    return Drill(pieces)
