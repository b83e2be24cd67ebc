"""Writes docs/families.md: which family of models runs how, found out by trying a tiny model of each."""

import sys
from pathlib import Path

import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.engine.families import FAMILIES, make_family  # noqa: E402

from hugging_llama.engine.runner import choose_runner  # noqa: E402

DOCUMENT = ROOT / "docs" / "families.md"
HEAD = """# Model families

How each family of language models is run, found out as at every load: a model of it (here a tiny random one) is run
in a batch, in pieces and beside others, and must compute what transformers' own forward computes.

- `batched`: all requests share every step. With *states* each sequence carries those of its recurrent layers; then no
  prompt takes over another one's beginning, and nothing is drafted. *Whole prompts* are not cut into chunks, since
  these layers go on from a state by single tokens only.
- `generate`: transformers' own, one request at a time, for the reason that is given.

Families that are not named here are tried in the same way. Written by `python tools/families.py` with transformers
{version}; a test compares.

| family | runner | |
|---|---|---|
"""


def table() -> str:
    """The whole document."""
    rows = []
    for name in FAMILIES:
        runner, reason = choose_runner(make_family(name))
        notes = (
            reason
            if runner is None
            else ", ".join(
                note
                for note, holds in (("states", not runner.can_rewind), ("whole prompts", runner.whole_prompts))
                if holds
            )
        )
        rows.append(f"| {name} | {'generate' if runner is None else 'batched'} | {notes} |\n")
    return HEAD.format(version=transformers.__version__) + "".join(rows)


if __name__ == "__main__":
    DOCUMENT.write_text(table())
