"""Conversations in which tools are called."""

import json
from collections.abc import Callable
from typing import Any

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Check, Conversation, Json, ToolUse
from tools.demo_model.families import any_family, weather
from tools.demo_model.json_answers import to_json
from tools.demo_model.vocabulary import ASKING, KEYS

CITY_NAMES = (["city"], ["location"], ["place"], ["town"])
Call = tuple[str, Json]


def offered_tools(draw: Draw, uses: list[ToolUse]) -> dict[str, Json]:
    """The tools in use and up to three of other kinds."""
    tools = {use.name: use.tool for use in uses}
    for _ in range(draw.pick([0, 0, 1, 1, 2, 3])):
        other = any_family(draw)
        if other.kind not in [use.kind for use in uses]:
            tools.setdefault(other.name, other.tool)
    return tools


def spoken_result(use: ToolUse) -> str:
    if use.answer is not None:
        return use.answer
    text = use.result
    value = json.loads(text).popitem()[1] if text.startswith("{") else text
    return f"The status is: {value}"


def two_cities(draw: Draw, use: ToolUse) -> tuple[str, list[Call], list[str], str] | None:
    """The same weather tool for two cities at once: question, calls, results, answer."""
    required = use.tool["function"]["parameters"]["required"]
    if required not in CITY_NAMES or not use.goal.startswith("the weather"):
        return None
    second = draw.city()
    key, first = next(iter(use.arguments.items()))
    if second == first or len(use.arguments) > 1:
        return None
    other = weather(draw, second)
    question = draw.cased(draw.phrase(ASKING["two_cities"])).format(first, second)
    calls = [(use.name, use.arguments), (use.name, {key: second})]
    return question, calls, [use.result, other.result], f"{use.answer} {other.answer}"


def failure(draw: Draw) -> tuple[str, str]:
    """A tool's error and what the user is told."""
    unknown_key = f"unknown {draw.pick(KEYS)}"
    errors = ["not found", "no network", "wrong argument", "timeout", "access denied", unknown_key]
    error = draw.pick(errors)
    text = draw.pick([to_json({"error": error}), f"Error: {error}", f"error: {error}"])
    return text, f"The tool failed: {error}."


def assistant(content: str, thinking: str | None, calls: list[Call] | None = None) -> Json:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [{"function": {"name": n, "arguments": args}} for n, args in calls]
    if thinking:
        message["thinking"] = thinking
    return message


def one_use(draw: Draw, use: ToolUse, think: bool, may_end: Callable[[], bool]) -> tuple[list[Json], Check]:
    """Question, calls, results and answer; or only up to the calls where the conversation may end there."""
    question, calls = use.question, [(use.name, use.arguments)]
    results, answer = [use.result], spoken_result(use)
    if draw.chance(0.08) and (both := two_cities(draw, use)):
        question, calls, results, answer = both
    reason = f"The user wants {use.goal}. I call {use.name}." if think else None
    messages = [{"role": "user", "content": question}, assistant("", reason, calls)]
    if may_end():
        return messages, ("calls", [list(call) for call in calls])
    if draw.chance(0.06) and len(calls) == 1:
        text, answer = failure(draw)
        results = [text]
    messages += [{"role": "tool", "content": text} for text in results]
    messages.append(assistant(answer, "The tool answered. I report it." if think else None))
    return messages, ("exact", answer)


def tools_conversation(
    draw: Draw, think: bool, only: Callable[[Draw], ToolUse] | None = None, end: str | None = None
) -> Conversation:
    """One or two uses of tools. It ends with a `call`, with an `answer`, or with either."""
    uses = [(only or any_family)(draw) for _ in range(draw.pick([1, 1, 1, 2]))]
    tools = offered_tools(draw, uses)
    uses = [use for use in uses if tools[use.name] is use.tool]
    names = list(tools)
    draw.rng.shuffle(names)
    messages: list[Json] = []
    check: Check = ("exact", "")
    for use in uses:
        last = use is uses[-1]

        def may_end(last: bool = last) -> bool:
            return last and (end == "call" or (end is None and draw.chance(0.35)))

        new, check = one_use(draw, use, think, may_end)
        messages += new
    return Conversation(messages, [tools[name] for name in names], check)
