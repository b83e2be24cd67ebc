"""What the documents say of commands, flags, links and error texts is true."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from hugging_llama_cli.main import COMMANDS, main
from hugging_llama_config.settings import SETTINGS
from tests.documents.blocks import DATA, DOCUMENTS, ROOT, RUNNABLE, blocks_of

PAGES = (*DOCUMENTS, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")))
_CALL = re.compile(r"\bhugging-llama (?:--url \S+ )?([a-z][\w-]*)((?:[^\n|`&#;)\\]|\\\n)*)")
_FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NAMES = {name for command in COMMANDS for name in (command.name, *command.aliases)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(document: Path) -> None:
    text = document.read_text()
    blocks = list(blocks_of(document))
    assert text.count("```") == 2 * len(blocks), "a block that is not closed, or not told by the test's pattern"
    for block in blocks:
        assert block.language in (*RUNNABLE, *DATA), f"{block.place}: language {block.language!r}"
        if block.language == "json":
            json.loads(block.code)
        if block.language == "toml":
            assert tomllib.loads(block.code).keys() <= SETTINGS.keys()


def test_a_newcomer_reads_the_readme_in_three_minutes() -> None:
    """What is more than this belongs into docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 155


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `--help` prints, by command."""
    found = {}
    for name in sorted(_NAMES):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        found[name] = capsys.readouterr().out
    return found


def test_every_command_and_flag_exists(help_of: dict[str, str]) -> None:
    wrong, seen = [], 0
    coming = {need for document in DOCUMENTS for block in blocks_of(document) for need in block.needs}
    for document in DOCUMENTS:
        text = re.sub(r"#[^\n`]*$", "", document.read_text(), flags=re.MULTILINE)
        spans = re.findall(r"`([^`\n]+)`", text) + [block.code for block in blocks_of(document)]
        for span in spans:
            for command, rest in _CALL.findall(span):
                seen += 1
                later = [need.split()[2:] for need in coming if need.split()[1] == command]
                if command not in help_of:
                    wrong += [] if later else [f"{document.name}: {command}"]
                    continue
                asked = set(_FLAG.findall(re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)))
                has = {*_FLAG.findall(help_of[command]), *(flag for flags in later for flag in flags)}
                wrong += [f"{document.name}: {command} {flag}" for flag in sorted(asked - has)]
    assert seen > 40
    assert wrong == []


@cache
def _anchors(document: Path) -> frozenset[str]:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """As they are seen in the repository; the site's are checked by MkDocs."""
    wrong = []
    for link in _LINK.findall(re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            wrong.append(link)
    assert wrong == []


def _said_in_code() -> str:
    """The sources, with texts in one piece that are written in several."""
    sources = (path for root in ("app", "cli", "config") for path in sorted((ROOT / root).rglob("*.py")))
    return re.sub(r'"\n\s*f?"', "", "\n".join(path.read_text() for path in sources))


def test_errors_that_are_explained_are_real() -> None:
    """Of the symptoms those that are quoted; an … stands for what differs."""
    said = _said_in_code()
    rows = [line for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines() if line.startswith("| `")]
    texts = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0]) if " " in text]
    assert len(texts) > 30
    parts = [part.strip() for text in texts for part in text.split("…") if part.strip()]
    assert [part for part in parts if part not in said] == []
