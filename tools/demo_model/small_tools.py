"""The small tool families, from timers to dice."""

from dataclasses import dataclass, field
from typing import Any

from tools.demo_model.draw import Draw
from tools.demo_model.examples import ToolUse
from tools.demo_model.tools import Outcome, Parameter, result, tool_use
from tools.demo_model.vocabulary import LISTS, NOUNS

CURRENCIES = ["euros", "dollars", "yen", "pounds", "francs", "pesos", "rupees"]
ROOMS = ["kitchen", "bedroom", "garage", "bathroom", "hall", "office", "garden"]
FILE_ENDINGS = ["txt", "md", "py", "json", "csv"]
SYMBOL_LETTERS = "ABCDEFGHIKLMNOPRSTUVXZ"


@dataclass(frozen=True)
class Candidate:
    """One possible use of a small tool. Its parameters' types follow from the values."""

    family: str
    values: dict[str, Any]
    outcome: Outcome
    types: dict[str, str] = field(default_factory=dict)
    options: dict[str, list[str]] = field(default_factory=dict)

    def parameters(self) -> list[Parameter]:
        return [
            Parameter(
                key,
                self.types.get(key) or ("integer" if isinstance(value, int) else "string"),
                options=self.options.get(key),
            )
            for key, value in self.values.items()
        ]


@dataclass(frozen=True)
class Values:
    """Everything that a small tool may be asked about."""

    person: str
    minutes: int
    text: str
    topic: str
    day: str
    symbol: str
    number: int
    currencies: list[str]
    language: str
    room: str
    state: str
    file: str
    price: str
    word: str


def draw_values(draw: Draw) -> Values:
    return Values(
        person=draw.name(),
        minutes=draw.number(1, 90),
        text=draw.cased(draw.words()),
        topic=draw.cased(draw.topic()),
        day=draw.cased(draw.pick(LISTS["days"])),
        symbol=draw.cased("".join(draw.pick(SYMBOL_LETTERS) for _ in range(draw.number(3, 4)))),
        number=draw.held_number(1, 9999),
        currencies=draw.rng.sample(CURRENCIES, 2),
        language=draw.cased(draw.pick(LISTS["languages"])),
        room=draw.pick(ROOMS),
        state=draw.pick(["on", "off"]),
        file=f"{draw.value(NOUNS)}.{draw.pick(FILE_ENDINGS)}",
        price=f"{draw.number(1, 900)}.{draw.number(10, 99)}",
        word=draw.value(NOUNS),
    )


def around_people(draw: Draw, v: Values) -> list[Candidate]:
    timer_set = Outcome(result(draw, "status", "ok"), f"The timer is set for {v.minutes} minutes.", "a timer")
    price = Outcome(result(draw, "price", v.price), f"The price of {v.symbol} is {v.price}.", "a stock price")
    sent = Outcome(result(draw, "status", "sent"), f"The message to {v.person} was sent.", "a message")
    source, target = v.currencies
    money = f"{v.number} {source} are {v.price} {target}."
    converted = Outcome(result(draw, "amount", v.price), money, "a conversion")
    in_language = f"In {v.language} it is: {v.topic}"
    translated = Outcome(result(draw, "translation", v.topic), in_language, "a translation")
    order_status = draw.pick(["shipped", "delivered", "open", "lost"])
    found = Outcome(result(draw, "status", order_status), None, "an order")
    amounts = {"amount": v.number, "source": source, "target": target}
    return [
        Candidate("timer", {"minutes": v.minutes}, timer_set),
        Candidate("stock", {"symbol": v.symbol}, price),
        Candidate("message", {"person": v.person, "text": v.text}, sent),
        Candidate("currency", amounts, converted, types={"amount": "number"}),
        Candidate("translate", {"text": v.text, "language": v.language}, translated),
        Candidate("order", {"number": v.number}, found),
    ]


def around_things(draw: Draw, v: Values) -> list[Candidate]:
    read = Outcome(v.text, f"The file {v.file} says: {v.text}", "a file")
    playing = Outcome(result(draw, "status", "playing"), f"Now playing {v.topic}.", "music")
    planned = f"The event {v.topic} is set for {v.day}."
    created = Outcome(result(draw, "status", "created"), planned, "an event")
    lit = Outcome(result(draw, "status", "ok"), f"The light in the {v.room} is {v.state}.", "a light")
    defined = Outcome(result(draw, "definition", v.topic), f"{v.word}: {v.topic}", "a definition")
    rolled = Outcome(result(draw, "roll", v.minutes), f"You rolled {v.minutes}.", "a dice roll")
    switch = {"room": v.room, "state": v.state}
    return [
        Candidate("file", {"file": v.file}, read),
        Candidate("music", {"song": v.topic}, playing),
        Candidate("event", {"title": v.topic, "day": v.day}, created),
        Candidate("light", switch, lit, options={"state": ["on", "off"]}),
        Candidate("define", {"word": v.word}, defined),
        Candidate("dice", {"sides": v.minutes + 1}, rolled),
    ]


def small_tool(draw: Draw) -> ToolUse:
    values = draw_values(draw)
    chosen: Candidate = draw.pick(around_people(draw, values) + around_things(draw, values))
    return tool_use(draw, chosen.family, chosen.values, chosen.outcome, chosen.parameters())
