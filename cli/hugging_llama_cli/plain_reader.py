"""Reading messages where the terminal can't move its cursor: no editing, no history, nothing to import."""

from hugging_llama_cli.quoted import is_open

PROMPT = ">>> "
MORE_PROMPT = "... "
GREETING = "Send a message (/? for help)"


class PlainReader:
    """The terminal's own line editing."""

    abandoned = ""

    def read(self) -> str:
        """One message. Raises EOFError for Ctrl-D, and KeyboardInterrupt."""
        text = input(PROMPT)
        while is_open(text):
            text += "\n" + input(MORE_PROMPT)
        return text

    def remember(self, wanted: bool) -> None:
        """Nothing is remembered here."""
