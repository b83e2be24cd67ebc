"""Whole training documents: `make` draws one. The same seed always gives the same documents."""

import random
from collections.abc import Callable, Sequence

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Conversation, Document, Example, Json
from tools.demo_model.families import FAMILIES, missing_tool, no_tool
from tools.demo_model.json_answers import as_json, in_json
from tools.demo_model.stories import story, story_text
from tools.demo_model.sums import arithmetic, drill
from tools.demo_model.talk import (
    capital,
    general,
    manual,
    manual_with_value,
    memory,
    persona,
    small_talk,
    unknown,
)
from tools.demo_model.tool_conversations import tools_conversation
from tools.demo_model.vocabulary import ASKING, CAPITALS, SMALL_TALK
from tools.demo_model.writing import counting, echo, listing

Behaviour = Callable[[Draw], Example]

BEHAVIOUR_WEIGHTS: dict[Behaviour, int] = {
    small_talk: 9,
    manual: 18,
    manual_with_value: 5,
    general: 4,
    unknown: 14,
    capital: 9,
    arithmetic: 15,
    counting: 6,
    listing: 7,
    echo: 8,
    story: 5,
    as_json: 9,
    no_tool: 4,
}
BEHAVIOURS = list(BEHAVIOUR_WEIGHTS)
WITHOUT_TOOLS = [b for b in BEHAVIOURS if b not in (arithmetic, echo, story, no_tool)]
"""Behaviours that stay the same when tools are offered."""


def any_behaviour(draw: Draw) -> Behaviour:
    return draw.rng.choices(BEHAVIOURS, list(BEHAVIOUR_WEIGHTS.values()))[0]


def examples(draw: Draw, think: bool, behaviours: Sequence[Behaviour] | None, turns: int | None) -> list[Example]:
    chosen: list[Example] = []
    count = turns or draw.pick([1, 1, 1, 1, 2, 2, 3, 5])
    for i in range(count):
        if behaviours is None and draw.chance(0.08):
            told, asked = memory(draw)
            between = any_behaviour(draw)(draw)
            chosen += [told, asked] if draw.chance(0.5) else [told, between, asked]
            continue
        behaviour = draw.rng.choices(behaviours)[0] if behaviours else any_behaviour(draw)
        if behaviour is arithmetic and think and i == count - 1:
            chosen.append(arithmetic(draw, large=True))
        else:
            chosen.append(behaviour(draw))
    return chosen


def conversation(
    draw: Draw, think: bool, behaviours: Sequence[Behaviour] | None = None, turns: int | None = None
) -> Conversation:
    chosen = examples(draw, think, behaviours, turns)
    system = draw.pick(ASKING["systems"]) if draw.chance(0.2) else None
    chance = draw.rng.random()
    if behaviours is None and chance < 0.05:
        name = draw.name().capitalize()
        system = draw.phrase(ASKING["system_persona"]).format(name)
        chosen.append(persona(draw, name))
    elif behaviours is None and chance < 0.09:
        system = draw.phrase(ASKING["system_json"])
        chosen = [in_json(e) for e in chosen if e.short is not None] or [as_json(draw)]
    return dialogue(chosen, think, system)


def dialogue(chosen: Sequence[Example], think: bool, system: str | None = None) -> Conversation:
    messages: list[Json] = [{"role": "system", "content": system}] if system else []
    for example in chosen:
        messages.append({"role": "user", "content": example.question})
        messages.append({"role": "assistant", "content": example.answer})
    if think:
        messages[-1]["thinking"] = chosen[-1].thinking
    return Conversation(messages, None, chosen[-1].check)


def plain_text(draw: Draw) -> str:
    """Text without the chat template, for raw completion."""
    chance = draw.rng.random()
    if chance < 0.6:
        opening, rest, _, _ = story_text(draw)
        return f"{opening} {rest}"
    if chance < 0.75:
        country, city = draw.pick(list(CAPITALS.items()))
        return f"The capital of {country} is {city}."
    if chance < 0.9:
        return arithmetic(draw).answer
    example: Example = draw.pick([counting, listing])(draw)
    return example.answer


def tools_not_needed(draw: Draw, think: bool) -> Conversation:
    """Tools are offered, but the question is not for them."""
    plain = conversation(draw, think, WITHOUT_TOOLS, 1)
    tools = tools_conversation(draw, False).tools
    if draw.chance(0.25):
        example, missing = missing_tool(draw)
        offered = [draw.pick(FAMILIES)(draw) for _ in range(3)]
        tools = [use.tool for use in offered if use.kind != missing.kind]
        plain = dialogue([example], think)
    return Conversation(plain.messages, tools or None, plain.check)


def make(rng: random.Random, long: bool = False) -> Document:
    """One training document."""
    draw, think, chance = Draw(rng), rng.random() < 0.45, rng.random()
    if chance < 0.04:
        return plain_text(draw)
    if chance < 0.14:
        return drill(draw)
    if chance < 0.42:
        return tools_conversation(draw, think)
    if chance < 0.48:
        return tools_not_needed(draw, think)
    return conversation(draw, think, turns=draw.number(6, 30) if long else None)


def who_are_you(draw: Draw) -> Example:
    """Nobody gave it another name: it is the demo model."""
    identity = next(fact for fact in SMALL_TALK if fact.topic == "asks who I am")
    return small_talk(draw, identity)


PRACTICE: dict[Behaviour, int] = {
    small_talk: 5,
    who_are_you: 2,
    manual: 5,
    manual_with_value: 2,
    general: 1,
    unknown: 2,
    arithmetic: 8,
    as_json: 3,
}


def practise(rng: random.Random) -> Document:
    """A document for the second stage: half as before, half a single turn of what came out weak."""
    if rng.random() < 0.5:
        return make(rng)
    draw, think = Draw(rng), rng.random() < 0.5
    if draw.chance(0.15):
        return tools_conversation(draw, think)
    behaviour = rng.choices(list(PRACTICE), list(PRACTICE.values()))[0]
    return dialogue([arithmetic(draw, large=think) if behaviour is arithmetic else behaviour(draw)], think)
