"""Short stories and poems."""

from tools.demo_model.draw import Draw
from tools.demo_model.examples import Example
from tools.demo_model.vocabulary import ADJECTIVES, ASKING, NAMES, NOUNS, STORIES

POEM = """O {noun}, so {adjective} and so small,
you are the finest thing of all.
The day is done, the night is near,
and I am glad that you are here."""


def story_text(draw: Draw, hero: str | None = None, name: str | None = None) -> tuple[str, str, str, str]:
    """One of many short stories: its opening, the rest, the hero and the hero's name."""
    hero = hero or f"{draw.pick(ADJECTIVES[:40])} {draw.value(STORIES['heroes'])}"
    name = name or draw.name().capitalize()
    friend = draw.pick([n for n in NAMES if n != name])
    place, thing = draw.pick(STORIES["places"]), draw.pick(STORIES["things"])
    opening: str = draw.pick(STORIES["openings"]).format(hero=hero, name=name, place=place)
    rest = [
        draw.pick(STORIES[part]).format(name=name, friend=friend, thing=thing)
        for part in ("wishes", "efforts", "meetings", "findings", "endings")
    ]
    return opening, " ".join(rest), hero, name


def story(draw: Draw) -> Example:
    opening, rest, hero, name = story_text(draw)
    kind = draw.rng.random()
    if kind < 0.4:  # continue the user's text
        return Example(opening, rest, f"I continue the story of {name}.", ("story", [name]))
    if kind < 0.6:
        return story_of(draw, hero.split()[1], name)
    if kind < 0.85:
        return story_of(draw, hero.split()[1], None)
    if kind < 0.9:
        return poem(draw)
    question = draw.ask(draw.phrase(ASKING["story"]))
    return Example(question, f"{opening} {rest}", "The user wants a story.", ("story", []))


def story_of(draw: Draw, hero: str, name: str | None) -> Example:
    question = draw.phrase(ASKING["story_named" if name else "story_about"]).format(h=hero, n=name)
    opening, rest, _, _ = story_text(draw, hero, name)
    wish = f"The user wants a story about a {hero}" + (f" named {name}." if name else ".")
    return Example(draw.ask(question, 0), f"{opening} {rest}", wish, ("story", [hero, name] if name else [hero]))


def poem(draw: Draw) -> Example:
    noun, adjective = draw.value(NOUNS), draw.pick(ADJECTIVES)
    question = draw.ask(draw.phrase(ASKING["poem"]).format(n=noun), 0)
    text = POEM.format(noun=noun, adjective=adjective)
    return Example(question, text, f"The user wants a poem about a {noun}.", ("has", [noun]))
