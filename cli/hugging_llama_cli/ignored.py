"""What of a request the server does nothing with, as the header of its answer names it."""

import sys

from hugging_llama_cli.plain import one_line_of

IGNORED_HEADER = "X-Ignored-Fields"
_OF_PARAMETERS = ("options.", "parameters.")
_OWN = frozenset({"progress"})
"""What this program asks for by itself, and does without."""
_WIPE = "\r\x1b[K"


class IgnoredFields:
    """Says on stderr what is ignored: each name once, however many requests of a chat have it."""

    def __init__(self) -> None:
        self._told = set(_OWN)

    def tell(self, header: str | None) -> None:
        """Print a line if the header has names that are new."""
        named = (name.strip() for name in one_line_of(header or "").split(","))
        new = [name for name in dict.fromkeys(named) if name and name not in self._told]
        self._told.update(new)
        parameters = [name.partition(".")[2] for name in new if name.startswith(_OF_PARAMETERS)]
        others = [name for name in new if not name.startswith(_OF_PARAMETERS)]
        groups = ((parameters, "parameter"), (others, "field"))
        texts = [f"the {word}{'s' * (len(names) > 1)} {', '.join(names)}" for names, word in groups if names]
        if texts:
            # one write, as a spinner may turn in this line
            wipe = _WIPE if sys.stderr.isatty() else ""
            sys.stderr.write(f"{wipe}Warning: the server does nothing with {' and '.join(texts)}\n")
            sys.stderr.flush()
