"""The pages of docs/ as MkDocs builds them: every link and anchor leads somewhere, and nothing comes from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="mkdocs-material is not installed",
)
_FETCHED = re.compile(r"<(?:script|img|source|iframe)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"'>\s]+)")
_LINKED = re.compile(r"<link\b[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    documents = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert documents | {"index", "deployment", "threats", "benchmarks"} == pages - {"404"}
    assert (site / "search" / "search_index.json").stat().st_size > 100_000
    assert (site / "images" / "decode.png").exists()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert _FETCHED.findall(text) == [], path
        links = [link for link in _LINKED.findall(text) if re.search(r"href=[\"']?(?:https?:)?//", link)]
        assert links == [], path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", path.read_text()), path


def test_links_into_the_repository_are_no_links(site: Path) -> None:
    """A site has no copy of the files that are no pages."""
    for path in site.rglob("*.html"):
        for link in re.findall(r"<a\b[^>]*\bhref=[\"']?([^\"'>\s#]+)", path.read_text()):
            if not re.match(r"\w+:", link):
                assert (path.parent / link).exists() or path.name == "404.html", (path, link)


def test_no_markdown_is_left_over(site: Path) -> None:
    """Such as a list or a block that this Markdown reads in another way than the repository's."""
    code = re.compile(r"<(pre|code|script|style)\b.*?</\1>", re.DOTALL)
    for path in site.rglob("*.html"):
        text = re.sub(r"<[^>]+>", "", code.sub("", path.read_text()))
        assert re.findall(r".*(?:\*\*|`|\]\(|\|--|^[-*] \w).*", text, re.MULTILINE) == [], path
