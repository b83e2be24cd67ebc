"""Writes docs/fields.md: what becomes of every field of every request, found out by sending it to the application."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.functional.field_probes import ENDPOINTS, GENERATE, Fate, World, fates, option_fates, world  # noqa: E402

DOCUMENT = ROOT / "docs" / "fields.md"
HEAD = """# Fields of requests

What becomes of every field of every request, by dialect and endpoint: each was sent to the application with a value
that means something.

- **honoured**: what is computed, or the answer, is another one than without it.
- **refused**: the answer is a 400 that says why, unless its value asks for nothing: `false`, or an empty text or list.
- **ignored**: no effect on the answer, for the reason that is given; its header `X-Ignored-Fields` names the field.

A field that is in none of these lists is ignored and named in `X-Ignored-Fields`, too, and so is what nobody looks at
within a field, by its path: `messages.content.cache_control`, `tools.defer_loading`, `reasoning.max_tokens`. What the
official clients of OpenAI, Anthropic and Ollama may send is listed in full: a test compares with their types. Written
by `python tools/fields.py`; a test compares it with what it finds.
"""


def document(world: World) -> str:
    """The whole document."""
    parts = [HEAD]
    dialect = ""
    for endpoint in ENDPOINTS:
        if endpoint.dialect != dialect:
            dialect = endpoint.dialect
            parts.append(f"\n## {dialect}\n")
        parts.append(_section(f"{endpoint.method} {endpoint.path}", fates(world, endpoint)))
    parts.append(_section(f"Options of {GENERATE.path} and /api/chat", option_fates(world)))
    return "".join(parts)


def _section(title: str, found: list[Fate]) -> str:
    honoured = ", ".join(f"`{fate.name}`" for fate in found if fate.verdict == "honoured")
    rows = [f"| `{fate.name}` | {fate.verdict} | {fate.why} |\n" for fate in found if fate.verdict != "honoured"]
    table = f"\n| field | | why |\n|---|---|---|\n{''.join(rows)}" if rows else ""
    return f"\n### {title}\n\nHonoured: {honoured}.\n{table}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as found:
        DOCUMENT.write_text(document(found))
