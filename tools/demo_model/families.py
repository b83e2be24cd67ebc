"""The large tool families: weather, calculator, clock, search, and made-up tools."""

from collections.abc import Callable

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Example, ToolUse
from tools.demo_model.json_answers import any_value, to_json
from tools.demo_model.small_tools import small_tool
from tools.demo_model.tools import Outcome, Parameter, result, schema, tool_use
from tools.demo_model.vocabulary import ADJECTIVES, ASKING, CITIES, KEYS, NOUNS, TOOLS, VERBS

SKIES = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear", "stormy"]
UNITS = ["celsius", "fahrenheit"]
OPERAND_NAMES = ["a|b", "x|y", "first|second", "num1|num2", "left|right", "a|b", "number1|number2"]
NO_TOOL = "I need a tool for that and have none. I am only a tiny demo model."


def report(draw: Draw, city: str) -> tuple[str, str]:
    """What a weather tool returns, and the answer to the user."""
    degrees, sky = draw.number(-15, 40), draw.pick(SKIES)
    both = [
        to_json({"temperature": degrees, "condition": sky}),
        to_json({"city": city, "temperature": degrees, "conditions": sky}),
        to_json({"temp": degrees, "weather": sky}),
        f"{degrees} degrees and {sky}",
        f"{sky}, {degrees} C",
        f"{degrees}°C, {sky}",
        f"It is {degrees} degrees and {sky}.",
    ]
    warmth = [f"{degrees} degrees", f"{degrees}°C", to_json({"temperature": degrees})]
    warmth += [f"{degrees} degrees celsius", str(degrees)]
    skies = [sky, to_json({"condition": sky}), to_json({"weather": sky})]
    in_full = (draw.pick(both), f"It is {degrees} degrees and {sky} in {city}.")
    temperature = (draw.pick(warmth), f"It is {degrees} degrees in {city}.")
    condition = (draw.pick(skies), f"It is {sky} in {city}.")
    text, answer = draw.pick([in_full, in_full, temperature, condition])
    return text, answer


def weather(draw: Draw, city: str | None = None) -> ToolUse:
    city = city or draw.city()
    text, answer = report(draw, city)
    questions = TOOLS["weather"]["questions"]
    parameters = [Parameter("city", "string")]
    values: dict[str, str | None] = {"city": city}
    if draw.chance(0.35):
        unit = draw.pick([*UNITS, None])
        required = draw.chance(0.5)
        if unit:
            questions = [q.rstrip("?.") + f" in {unit}" + "?" * q.endswith("?") for q in questions]
        parameters.append(Parameter("unit", "string", required, UNITS))
        values["unit"] = unit or ("celsius" if required else None)
        if draw.chance(0.3):
            parameters.reverse()
    outcome = Outcome(text, answer, f"the weather in {city}")
    return tool_use(draw, "weather", values, outcome, parameters, questions)


def calculator(draw: Draw) -> ToolUse:
    a, b = draw.until(lambda: (draw.number(0, 10 ** draw.number(1, 4)), draw.number(0, 10 ** draw.number(1, 4))))
    family, sign, word, value, questions = draw.pick(
        [
            ("add", "+", "sum", a + b, ASKING["addition"]),
            ("add", "+", "sum", a + b, ASKING["addition"]),
            ("subtract", "-", "difference", a - b, ASKING["subtraction"]),
            ("multiply", "*", "product", a * b, None),
        ]
    )
    first, second = draw.phrase(OPERAND_NAMES).split("|")
    kind = draw.pick(["integer", "number"])
    parameters = [Parameter("a", kind, names=[first]), Parameter("b", kind, names=[second])]
    outcome = Outcome(result(draw, word, value), f"{a} {sign} {b} = {value}", f"the {word} of {a} and {b}")
    return tool_use(draw, family, {"a": a, "b": b}, outcome, parameters, questions)


def clock(draw: Draw) -> ToolUse:
    city, time = draw.city(), f"{draw.number(0, 23):02d}:{draw.number(0, 59):02d}"
    here = draw.chance(0.3)
    text = result(draw, "time", time)
    if here:
        return tool_use(draw, "clock", {}, Outcome(text, f"It is {time}.", "the time"), [])
    outcome = Outcome(text, f"It is {time} in {city}.", f"the time in {city}")
    return tool_use(draw, "clock_in_city", {"city": city}, outcome, [Parameter("city", "string")])


def search(draw: Draw) -> ToolUse:
    query = draw.cased(draw.topic())
    found = f"The {draw.pick(ADJECTIVES)} {draw.pick(NOUNS)} was "
    found += f"{draw.pick(['found', 'built', 'seen', 'made', 'sold'])} in {draw.pick(CITIES)}"
    found += draw.pick([".", f" in {draw.number(1500, 2030)}."])
    text = draw.pick([found, to_json({"results": [found]}), to_json({"result": found})])
    outcome = Outcome(text, f"I found this: {found}", f"a search for {query}")
    return tool_use(draw, "search", {"query": query}, outcome, [Parameter("query", "string")])


def made_up_tool(draw: Draw) -> ToolUse:
    """The name, the parameters and the arguments must all be copied from the prompt."""
    verb, noun = draw.until(lambda: (draw.pick(VERBS), draw.pick(NOUNS)))
    keys = draw.rng.sample(KEYS, draw.pick([1, 1, 2]))
    name = draw.pick([f"{verb}_{noun}", f"{noun}_{verb}", f"{verb}{noun.capitalize()}", f"{verb}_the_{noun}"])
    values = {key: any_value(draw) for key in keys}
    body = " and ".join(f"{key} {value}" for key, value in values.items())
    question = draw.phrase(ASKING["made_up_tool"])
    question = question.format(name=name, b=body, V=verb.capitalize(), v=verb, n=noun)
    if draw.lower_case:
        question = question.lower().replace(name.lower(), name)
    statuses = ["done", "ok", f"{noun} ready", "failed", f"number {draw.number(1, 999)}", draw.topic()]
    status = draw.pick(statuses)
    parameters = [(k, Parameter(k, "integer" if isinstance(v, int) else "string")) for k, v in values.items()]
    tool = schema(name, f"{verb.capitalize()} a {noun}", parameters)
    text = result(draw, "status", status)
    return ToolUse(tool, name, values, question, text, f"The result is: {status}", f"to {verb} a {noun}")


FAMILIES: list[Callable[[Draw], ToolUse]] = [weather, calculator, clock, search, small_tool, made_up_tool]
FAMILY_WEIGHTS = [7, 6, 4, 6, 8, 6]


def any_family(draw: Draw) -> ToolUse:
    return draw.rng.choices(FAMILIES, FAMILY_WEIGHTS)[0](draw)


def missing_tool(draw: Draw) -> tuple[Example, ToolUse]:
    """A question that only a tool could answer, where there is none; and the use that it stands for."""
    use: ToolUse = draw.pick([weather, weather, clock, search, small_tool])(draw)
    thinking = f"The user wants {use.goal}. No tool fits."
    return Example(use.question, NO_TOOL, thinking, ("has", ["demo model"])), use


def no_tool(draw: Draw) -> Example:
    return missing_tool(draw)[0]
