"""Cuts a text into pieces in every way, for machines that are fed piece by piece."""

import itertools

from hypothesis import strategies as st


def pieces_of(text: str) -> st.SearchStrategy[list[str]]:
    """Lists of pieces, some of them empty, that join to `text`."""
    cuts = st.lists(st.integers(0, len(text)), max_size=8).map(lambda found: [0, *sorted(found), len(text)])
    return cuts.map(lambda at: [text[a:b] for a, b in itertools.pairwise(at)])
