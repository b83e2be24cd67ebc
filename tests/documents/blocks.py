"""The code blocks of the documents, and what their markers say.

<!-- not run: why -->                          before a block that can't be run here
<!-- not run, all of this page: why -->        for every block of a page
<!-- needs: hugging-llama bench, … -->         run where this command line has the command, or the flag
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RUNNABLE = ("bash", "python")
DATA = ("json", "toml", "text")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>.*)\n(?P<code>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE)
_MARKER = re.compile(r"<!-- (not run|needs): (.+?) -->\s*")
_PAGE_MARKER = re.compile(r"^<!-- not run, all of this page: (.+?) -->$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One of them. `reason` says why it is not run, `needs` what of the command line it takes."""

    document: Path
    line: int
    language: str
    code: str
    reason: str = ""
    needs: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path) -> Iterator[Block]:
    """All blocks of a document, from its beginning to its end."""
    text = document.read_text()
    of_page = _PAGE_MARKER.search(text)
    for found in _BLOCK.finditer(text):
        markers = dict(_MARKER.findall(_lines_before(text[: found.start()])))
        indent = found["indent"]
        code = "".join(line.removeprefix(indent) for line in found["code"].splitlines(keepends=True))
        yield Block(
            document=document,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"].strip(),
            code=code,
            reason=markers.get("not run", str(of_page[1]) if of_page else ""),
            needs=tuple(filter(None, markers.get("needs", "").split(", "))),
        )


def _lines_before(text: str) -> str:
    """The markers that stand right before the end of `text`."""
    lines = text.splitlines()
    kept: list[str] = []
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("<!-- ")):
        kept.append(lines.pop())
    return "\n".join(kept)
