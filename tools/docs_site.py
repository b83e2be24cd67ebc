"""MkDocs' hook: documents that lie elsewhere in the repository become pages, and links lead to where things are.

Everything is written for readers of the repository. On the site a link to one of `PAGES` leads to its page, and one to
any other file outside of `docs/` becomes that file's path, as the site has no copy of it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "deploy/README.md": "deployment.md",
    "SECURITY.md": "threats.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results/decode.png": "images/decode.png",
}
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^\s*```")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages and pictures from outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The same text with links that hold on the site, and with `|` in code as this Markdown writes it in tables."""
    source = _SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    lines, is_code = [], False
    for line in markdown.split("\n"):
        is_fence = bool(_FENCE.match(line))
        if not is_code and not is_fence:
            line = _LINK.sub(lambda link: _on_site(link, source), line)
            if line.startswith("|"):
                line = re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), line)
        is_code ^= is_fence
        lines.append(line)
    return "\n".join(lines)


def _on_site(link: re.Match[str], source: str) -> str:
    mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    if re.match(r"\w+:", target):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGES:
        path = PAGES[path]
    elif path.startswith("docs/"):
        path = path.removeprefix("docs/")
    elif (ROOT / path).exists():
        return f"`{path}`" if text.strip("`") in (path, target) else f"{text} (`{path}`)"
    here = posixpath.dirname(PAGES.get(source, source.removeprefix("docs/")))
    return f"{mark}[{text}]({posixpath.relpath(path, here or '.')}{anchor})"
