"""Which log-probabilities belong to the text of an answer."""

from hugging_llama.neutral.events import GenerateEvent, TextDelta, ThinkingDelta, TokenLogprob, ToolCallDelta


class TextLogprobs:
    """Of one answer. Tokens without text so far are part of the text that comes next; where a call or reasoning comes
    next, or the end, they were none."""

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []

    def of(self, event: GenerateEvent) -> tuple[TokenLogprob, ...]:
        """Those of this text, in order; there are none for any other event."""
        match event:
            case TextDelta(text, entries):
                self._waiting += entries
                if text:
                    found, self._waiting = tuple(self._waiting), []
                    return found
            case ThinkingDelta() | ToolCallDelta():
                self._waiting.clear()
        return ()
