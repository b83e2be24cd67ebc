"""What is evaluated: one behaviour at a time, and whether an answer is right."""

import json
import re
from collections.abc import Callable
from typing import Any

from tools.demo_model.conversations import (
    BEHAVIOURS,
    Behaviour,
    any_behaviour,
    conversation,
    dialogue,
    tools_not_needed,
)
from tools.demo_model.draw import Draw
from tools.demo_model.examples import Check, Conversation, Example, ToolUse
from tools.demo_model.families import calculator, clock, made_up_tool, no_tool, search, weather
from tools.demo_model.json_answers import as_json
from tools.demo_model.small_tools import small_tool
from tools.demo_model.stories import story
from tools.demo_model.sums import arithmetic, too_large
from tools.demo_model.talk import capital, general, manual, manual_with_value, memory, persona, small_talk, unknown
from tools.demo_model.tool_conversations import tools_conversation
from tools.demo_model.vocabulary import ASKING, LISTS, STORIES
from tools.demo_model.writing import counting, echo, listing

Case = Callable[[Draw, bool], Conversation]
"""Draws one conversation for a source of chance, with thinking on or off."""

SHORT = [b for b in BEHAVIOURS if b not in (story, as_json)]


def one(behaviour: Behaviour) -> Case:
    return lambda draw, think: conversation(draw, think, [behaviour], 1)


def sum_between(low: int, high: int) -> Case:
    """Sums and differences whose larger number lies between the bounds."""

    def sums(draw: Draw) -> Example:
        while True:
            example = arithmetic(draw, large=high > 99)
            numbers = [int(x) for x in re.findall(r"\d+", str(example.check[1]))[:2]]
            if example.check[0] == "exact" and low <= max(numbers) <= high:
                return example

    return one(sums)


def too_large_sum(draw: Draw, think: bool) -> Conversation:
    return dialogue([too_large(draw, 1000 if think else 100)], think)


def tool_call(family: Callable[[Draw], ToolUse], calls: int = 1) -> Case:
    def case(draw: Draw, think: bool) -> Conversation:
        while True:
            drawn = tools_conversation(draw, think, family, "call")
            if len(drawn.check[1]) == calls:
                return drawn

    return case


def tool_answer(draw: Draw, think: bool) -> Conversation:
    return tools_conversation(draw, think, end="answer")


def named(draw: Draw, think: bool) -> Conversation:
    name = draw.name().capitalize()
    return dialogue([persona(draw, name)], think, draw.phrase(ASKING["system_persona"]).format(name))


def remembered(draw: Draw, think: bool) -> Conversation:
    told, asked = memory(draw)
    return dialogue([told, any_behaviour(draw)(draw), asked], think)


def several_turns(draw: Draw, think: bool) -> Conversation:
    return conversation(draw, think, SHORT, 5)


CASES: dict[str, Case] = {
    "small_talk": one(small_talk),
    "manual": one(manual),
    "manual_with_value": one(manual_with_value),
    "general": one(general),
    "unknown": one(unknown),
    "no_tool": one(no_tool),
    "capitals": one(capital),
    "sums_to_20": sum_between(0, 20),
    "sums_to_99": sum_between(21, 99),
    "sums_to_999": sum_between(100, 999),
    "sums_too_large": too_large_sum,
    "counting": one(counting),
    "lists": one(listing),
    "repeating": one(echo),
    "stories": one(story),
    "json": one(as_json),
    "memory": remembered,
    "persona": named,
    "five_turns": several_turns,
    "call_weather": tool_call(weather),
    "call_calculator": tool_call(calculator),
    "call_time": tool_call(clock),
    "call_search": tool_call(search),
    "call_12_others": tool_call(small_tool),
    "call_made_up_tool": tool_call(made_up_tool),
    "call_two_at_once": tool_call(weather, calls=2),
    "tool_answer": tool_answer,
    "tools_not_needed": tools_not_needed,
}
THINKING_ONLY = {"sums_to_999"}


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def are_items(text: str, category: str, count: int) -> bool:
    items = [re.sub(r"^\d+\. ", "", item).strip() for item in re.split(r"\n|, ", text.strip())]
    return len(items) == count == len(set(items)) and all(item in LISTS[category] for item in items)


def are_calls(text: str, wanted: list[list[Any]]) -> bool:
    found = [parsed(call) for call in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text)]
    return [[call.get("name"), call.get("arguments")] for call in found if call] == wanted


def is_story(text: str, words: list[str]) -> bool:
    one_thing = sum(thing in text for thing in STORIES["things"]) == 1
    return all(word in text for word in words) and text.count(".") >= 4 and one_thing


def is_correct(check: Check, text: str) -> bool:
    how, wanted = check
    judges: dict[str, Callable[[], bool]] = {
        "has": lambda: all(word.lower() in text.lower() for word in wanted),
        "exact": lambda: text.strip() == wanted,
        "json": lambda: bool(parsed(text) == wanted),
        "items": lambda: are_items(text, *wanted),
        "calls": lambda: are_calls(text, wanted),
        "story": lambda: is_story(text, wanted),
    }
    return judges[how]()
